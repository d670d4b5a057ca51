"""The limits of the doctor, each with its unit and its reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from cosytune.errors import InputError

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """When a measure becomes a finding. Where two limits are given, the milder one marks and the stricter one drops.

    Attributes:
        shortest: seconds; a shorter clip holds no word.
        longest: seconds; models take at most 30.
        bandwidth: Hz of speech; below it the voice is muffled (a telephone has 3400, a 16 kHz file 8000).
        wall: dB that the spectrum falls at its end where something cut it; a voice alone fades.
        clipped: share of samples on flat tops that is marked.
        badly_clipped: share that is dropped: 6 dB too loud gives 0.004 to 0.015.
        crowding: share of the loud peaks at one height that a clean voice does not reach.
        quiet: dBFS of speech that is marked: 16 bits have 98 dB, and rounding is heard below 50.
        too_quiet: dBFS that is dropped.
        loud_step: dB from the speaker's median level that is marked, if it is also an outlier.
        snr: dB that is marked; a model learns to hiss.
        bad_snr: dB that is dropped.
        steady: steady tones at a time between the words; voices alone have less than 1 on average.
        edge_silence: seconds at an end that are trimmed.
        margin: seconds of silence that trimming leaves.
        pause: seconds inside the speech that are marked: the text does not tell the model to wait.
        cut: dB of the first or last 20 ms against the speech: no voice stops so suddenly.
        offset: share of full scale.
        channel_gap: dB; the softer channel holds nothing.
        channels_alike: correlation below which the channels hold different things.
        pace: robust standard deviations from the pace of the language that are marked.
        bad_pace: those that are dropped.
        speaker: robust standard deviations below the speaker's usual likeness.
        transcript: robust standard deviations above the corpus's usual error rate.
        error_rate: of characters; a transcript below it is not called wrong whatever the rest.
        common: share of the clips from which a defect is a property of the whole corpus and no reason to drop clips.
        few_minutes: less usable speech than this is too little for a voice.
        few_speaker_minutes: less than this is too little for each of several voices.
    """

    shortest: float = 0.15
    longest: float = 30.0
    bandwidth: float = 6500.0
    wall: float = 15.0
    clipped: float = 0.0002
    badly_clipped: float = 0.003
    crowding: float = 0.15
    quiet: float = -42.0
    too_quiet: float = -52.0
    loud_step: float = 9.0
    snr: float = 18.0
    bad_snr: float = 12.0
    steady: float = 1.2
    edge_silence: float = 0.6
    margin: float = 0.2
    pause: float = 1.2
    cut: float = -12.0
    offset: float = 0.01
    channel_gap: float = 20.0
    channels_alike: float = 0.5
    pace: float = 3.5
    bad_pace: float = 6.0
    speaker: float = 4.0
    transcript: float = 3.5
    error_rate: float = 0.5
    common: float = 0.4
    few_minutes: float = 5.0
    few_speaker_minutes: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value != value or (value < 0 and field.name not in ("quiet", "too_quiet", "cut", "channels_alike")):
                raise InputError(f"the limit {field.name!r} cannot be {value}: give a number, 0 or more")
        if not 0 < self.shortest < self.longest:
            raise InputError(
                f"clips from {self.shortest:g} to {self.longest:g} s are none: the shortest must be above 0 s and "
                "below the longest"
            )

    def to_json(self) -> dict[str, float]:
        """By name."""
        return {name: float(value) for name, value in asdict(self).items()}
