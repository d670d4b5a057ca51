"""From the numbers of one clip to what is wrong with its sound, in words."""

from __future__ import annotations

from collections.abc import Iterator

from cosytune.data.doctor.settings import Limits
from cosytune.data.doctor_results import Finding, Measures

__all__ = ["sound_findings", "trimmed"]

LONG_ENOUGH = 1.0
"""Seconds of speech from which a missing upper half of the spectrum is no matter of the word that is said."""

OFFSET_SHARE = 0.05
"""An offset matters from this share of the loudest sample."""

HUM_BELOW = 35.0
"""dB below the speech at which the mains cannot be heard any more."""

ABOVE_NOISE = 6.0
"""dB above the noise from which what is heard is the voice."""

AUDIBLE_MUSIC = 40.0
"""dB of SNR above which steady tones are too soft to matter."""


def sound_findings(measures: Measures, limits: Limits) -> list[Finding]:
    """All findings that follow from one clip alone."""
    if measures.speech_seconds <= 0:
        return [Finding("silent", "drop", "There is nothing to hear in it.", measures.level, unit="dBFS")]
    checks = (_length, _band, _clipping, _level, _noise, _background, _edges, _channels)
    return [finding for check in checks for finding in check(measures, limits)]


def trimmed(measures: Measures, limits: Limits) -> tuple[float, float]:
    """Seconds from the clip's start at which it should begin and end, silence beyond the limit cut to the margin."""
    begin, end = 0.0, measures.seconds
    if measures.leading > limits.edge_silence:
        begin = round(measures.leading - limits.margin, 3)
    if measures.trailing > limits.edge_silence and measures.measured_seconds >= measures.seconds:
        end = round(measures.seconds - measures.trailing + limits.margin, 3)
    return begin, end


def _length(measures: Measures, limits: Limits) -> Iterator[Finding]:
    if measures.seconds < limits.shortest:
        yield Finding(
            "too short", "drop", f"It lasts {measures.seconds:.2f} s: no word fits in so little.",
            measures.seconds, limits.shortest, "s", limits.shortest / max(measures.seconds, 1e-3),
        )  # fmt: skip
    if measures.seconds > limits.longest:
        yield Finding(
            "too long", "fix",
            f"It lasts {measures.seconds:.0f} s, and models take at most {limits.longest:g} s: `cosytune data prepare` "
            "cuts it at pauses. Only its first minute was listened to here."
            if measures.measured_seconds < measures.seconds
            else f"It lasts {measures.seconds:.0f} s, and models take at most {limits.longest:g} s: "
            "`cosytune data prepare` cuts it at pauses.",
            measures.seconds, limits.longest, "s", measures.seconds / limits.longest,
        )  # fmt: skip


def _band(measures: Measures, limits: Limits) -> Iterator[Finding]:
    half = value = measures.sample_rate / 2
    below = measures.bandwidth < limits.bandwidth and measures.speech_seconds >= LONG_ENOUGH
    if half <= limits.bandwidth:
        words = (
            f"A file with {measures.sample_rate} Hz holds nothing above {half:.0f} Hz: it sounds like a telephone, and "
            "so will the voice."
        )
    elif below and measures.edge >= limits.wall:
        value = measures.bandwidth
        words = (
            f"The file has {measures.sample_rate} Hz, but its sound ends at {measures.bandwidth:.0f} Hz as if cut off: "
            f"it was recorded or stored at about {2 * measures.bandwidth:.0f} Hz and only converted up."
        )
    else:
        return
    yield Finding(
        "narrow band", "drop", words, value, limits.bandwidth, "Hz", limits.bandwidth / max(value, 100.0)
    )  # fmt: skip


def _clipping(measures: Measures, limits: Limits) -> Iterator[Finding]:
    peak = measures.peak
    where = "at full scale" if peak > 0.985 else f"at {peak:.2f} of full scale, so it was made softer afterwards"
    if measures.clipped >= limits.clipped:
        bad = measures.clipped >= limits.badly_clipped
        words = f"{100 * measures.clipped:.2g} % of its samples lie on flat tops {where}: it was recorded too loud" + (
            " and crackles." if bad else "; just audible."
        )
        yield Finding(
            "clipping", "drop" if bad else "keep", words, measures.clipped, limits.clipped, "share of samples",
            measures.clipped / limits.clipped,
        )  # fmt: skip
    elif measures.crowding >= limits.crowding:
        words = (
            f"{100 * measures.crowding:.0f} % of its loud peaks are equally high {where}: a limiter or light clipping."
        )
        yield Finding(
            "limiter", "keep", words, measures.crowding, limits.crowding, "share of peaks",
            measures.crowding / limits.crowding,
        )  # fmt: skip


def _level(measures: Measures, limits: Limits) -> Iterator[Finding]:
    if measures.level >= limits.quiet:
        return
    bad = measures.level < limits.too_quiet
    words = f"Its speech has {measures.level:.0f} dBFS; usual is -30 to -18: " + (
        "so soft that rounding noise becomes part of the voice." if bad else "make it louder before training."
    )
    yield Finding(
        "too quiet", "drop" if bad else "keep", words, measures.level, limits.quiet, "dBFS",
        measures.level / limits.quiet,
    )  # fmt: skip


def _noise(measures: Measures, limits: Limits) -> Iterator[Finding]:
    if measures.snr is None or measures.snr >= limits.snr:
        return
    bad = measures.snr < limits.bad_snr
    words = f"What sounds behind the voice is only {measures.snr:.0f} dB softer than the voice; " + (
        "the model would learn the noise with it." if bad else f"{limits.snr:g} dB and more are wanted."
    )
    yield Finding(
        "noise", "drop" if bad else "keep", words, measures.snr, limits.snr, "dB",
        1 + (limits.snr - measures.snr) / 6,
    )  # fmt: skip


def _background(measures: Measures, limits: Limits) -> Iterator[Finding]:
    audible = measures.snr is None or measures.snr < AUDIBLE_MUSIC
    if measures.steady >= limits.steady and audible:
        words = (
            f"{measures.steady:.1f} steady tones at a time sound between the words: music, a machine or singing. "
            "Listen to it."
        )
        yield Finding("music", "drop", words, measures.steady, limits.steady, "tones", measures.steady / limits.steady)
    if measures.hum and measures.hum_level > measures.level - HUM_BELOW:
        words = f"The mains hum at {measures.hum:.0f} Hz, {measures.level - measures.hum_level:.0f} dB below the voice."
        yield Finding("hum", "keep", words, measures.hum_level, measures.level - HUM_BELOW, "dBFS")
    if abs(measures.offset) > max(limits.offset, OFFSET_SHARE * measures.peak):
        words = f"All samples are shifted by {100 * measures.offset:.1f} % of full scale: a faulty sound card."
        yield Finding(
            "offset", "keep", words, measures.offset, limits.offset, "of full scale",
            abs(measures.offset) / limits.offset,
        )  # fmt: skip


def _edges(measures: Measures, limits: Limits) -> Iterator[Finding]:
    begin, end = trimmed(measures, limits)
    if begin > 0 or end < measures.seconds:
        words = (
            f"{measures.leading:.1f} s of silence before the speech and {measures.trailing:.1f} s after it: the model "
            f"would learn to wait. What goes beyond {limits.margin:g} s is cut."
        )
        worst = max(measures.leading, measures.trailing)
        yield Finding("edge silence", "fix", words, worst, limits.edge_silence, "s", worst / limits.edge_silence)
    if measures.pause > limits.pause:
        words = f"It pauses for {measures.pause:.1f} s inside the speech, and no text tells a model to wait so long."
        yield Finding("long pause", "keep", words, measures.pause, limits.pause, "s", measures.pause / limits.pause)
    whole = measures.measured_seconds >= measures.seconds
    # In a noisy clip the noise begins and ends suddenly, not the voice.
    limit = limits.cut if measures.snr is None else max(limits.cut, ABOVE_NOISE - measures.snr)
    for name, value, counts in (("start", measures.head, True), ("end", measures.tail, whole)):
        if counts and value > limit:
            words = f"The voice is already there in the first 20 ms ({round(value)} dB): the beginning is cut off."
            if name == "end":
                words = f"The voice is still there in the last 20 ms ({round(value)} dB): the end is cut off."
            yield Finding(f"cut {name}", "drop", words, value, limits.cut, "dB", 1 + (value - limits.cut) / 6)


def _channels(measures: Measures, limits: Limits) -> Iterator[Finding]:
    gap, alike = measures.channel_gap, measures.channel_likeness
    if gap is None or alike is None:
        return
    if gap > limits.channel_gap:
        words = f"One channel is {gap:.0f} dB softer than another: an empty track. The mean of all is used."
        yield Finding("channels", "keep", words, gap, limits.channel_gap, "dB", gap / limits.channel_gap)
    elif alike < limits.channels_alike:
        cancel = alike < -limits.channels_alike
        words = f"Its channels differ (correlation {alike:.2f}): " + (
            "one is the other upside down, and together they cancel out."
            if cancel
            else "two microphones or two people; the mean of both is used, which may echo."
        )
        yield Finding(
            "channels", "drop" if cancel else "keep", words, alike, limits.channels_alike, "correlation", 2 - alike
        )
