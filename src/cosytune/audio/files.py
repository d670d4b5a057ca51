"""Reading and writing recordings: mono float32 waves inside, wav / flac / mp3 / ogg (and m4a by ffmpeg) outside."""

from __future__ import annotations

import io
import math
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from cosytune.audio.resample import resample
from cosytune.errors import InputError
from cosytune.files import write_bytes
from cosytune.units import samples_of_seconds, seconds_of_samples

__all__ = ["WaveInfo", "encode_wave", "pcm16", "read_channels", "read_wave", "wave_blocks", "wave_info", "write_wave"]

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
}
FFMPEG_SUFFIXES = frozenset({".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".aac", ".webm", ".wma", ".amr"})
"""What libsndfile cannot decode and ffmpeg can."""
FFMPEG_CONTAINERS = "mov,mp4,m4a,3gp,aac,matroska,webm,asf,amr,wav,mp3,ogg,flac"
"""The containers that ffmpeg may find in such a file: no playlist, which could name other files."""
FFMPEG_PATIENCE = (60.0, 1e-6)
"""Seconds that ffmpeg may take, and seconds more for each byte of the file: hundreds of times what it needs."""
FULL_SCALE = 32767.0
"""The 16-bit sample of 1."""
RATES = (1000, 1_000_000)
"""Hz that a recording can have; with another rate its few samples would last for hours, or for no time at all."""
CUT_SLACK = 0.05
"""Seconds by which a manifest's `end` may pass the end of the recording: other tools round durations."""
PRE_ROLL = 0.5
"""Seconds decoded before the start of a cut and thrown away: an MP3 frame needs the bits of those before it."""
ENCODE_BLOCK = 65_536
"""Samples handed over at once: libsndfile's Vorbis encoder overflows its stack on a long wave."""
WAV_STREAMED = 0x7FFF_0000
"""Data sizes from here on are what programs write that did not know the size beforehand."""
WAV_SLACK = 64
"""Bytes by which honest but careless writers overstate the data size."""
MP3_SLACK = 5 * 1152
"""Samples between what an MP3's frames hold and what decoders give: encoder delay, padding, the table's own frame."""


@dataclass(frozen=True)
class WaveInfo:
    """What a recording is, without its samples.

    Attributes:
        seconds: duration.
        sample_rate: Hz.
        channels: 1 for mono.
    """

    seconds: float
    sample_rate: int
    channels: int


@dataclass(frozen=True)
class _Recording:
    """An open recording: `samples` per channel, of which `missing_allowed` may turn out not to exist."""

    sound: soundfile.SoundFile
    samples: int
    missing_allowed: int


def wave_info(path: Path) -> WaveInfo:
    """Duration, rate and channels of a recording.

    Raises:
        InputError: the file is missing, a folder, empty, cut off or not audio.
    """
    with _opened(path) as recording:
        rate = recording.sound.samplerate
        return WaveInfo(seconds_of_samples(recording.samples, rate), rate, recording.sound.channels)


def read_wave(
    path: Path, sample_rate: int | None = None, start: float = 0.0, end: float | None = None
) -> tuple[np.ndarray, int]:
    """Read a recording, or a part of it, as one channel.

    Args:
        path: wav, flac, mp3, ogg (whatever libsndfile reads), or m4a / mp4 / aac / webm / wma where `ffmpeg` is
            installed.
        sample_rate: Hz to resample to; None keeps the recording's own.
        start: seconds to begin at.
        end: seconds to stop at; None is the end of the recording.

    Returns:
        The mean of the channels [N] float32, nominally in [-1, 1], and its rate in Hz. Before resampling, N is
        round(end * rate) - round(start * rate).

    Raises:
        InputError: the file is missing, a folder, empty, cut off, damaged, not audio, holds non-finite samples, or
            does not have the part asked for.
    """
    channels, rate = read_channels(path, start, end)
    wave = channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1)
    if sample_rate is None:
        return wave, rate
    return resample(wave, rate, sample_rate), sample_rate


def read_channels(path: Path, start: float = 0.0, end: float | None = None) -> tuple[np.ndarray, int]:
    """Read a recording, or a part of it, with its channels apart [N, channels] float32; arguments as in `read_wave`.

    Raises:
        InputError: as `read_wave`.
    """
    with _opened(path) as recording:
        first, last = _span(path, recording, start, end)
        (channels,) = _read_blocks(path, recording, first, last, last - first)
        return _finite(path, channels), recording.sound.samplerate


def wave_blocks(
    path: Path, seconds: float = 30.0, start: float = 0.0, end: float | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """Read a recording of any length block by block, as one channel; the file is opened once.

    Args:
        path: as in `read_wave`.
        seconds: length of a block; the last one may be shorter.
        start: seconds to begin at.
        end: seconds to stop at; None is the end of the recording.

    Yields:
        The mean of the channels [N] float32 and the rate in Hz; joined, the blocks are what `read_wave` gives.

    Raises:
        InputError: as `read_wave`.
    """
    with _opened(path) as recording:
        rate = recording.sound.samplerate
        first, last = _span(path, recording, start, end)
        step = max(1, samples_of_seconds(seconds, rate))
        for block in _read_blocks(path, recording, first, last, step):
            yield _finite(path, block).mean(axis=1), rate


def encode_wave(wave: np.ndarray, sample_rate: int, format: str) -> bytes:
    """Encode one channel; wav and flac with 16 bits, louder samples than 1 clipped.

    Args:
        wave: [N] in [-1, 1].
        sample_rate: Hz; MP3 knows 8, 11.025, 12, 16, 22.05, 24, 32, 44.1 and 48 kHz only.
        format: "wav", "flac", "mp3" or "ogg" (Vorbis).

    Raises:
        InputError: an unknown format, a rate the format lacks, no samples, or samples that are not numbers.
        ValueError: the wave is not [N].
    """
    if format not in FORMATS:
        raise InputError(f"{format!r} is not a format we write: choose one of {', '.join(FORMATS)}")
    if wave.ndim != 1:
        raise ValueError(f"encode_wave takes one channel [N], got shape {list(wave.shape)}")
    if not len(wave) or not np.isfinite(wave).all():
        problem = "no samples" if not len(wave) else "samples that are not numbers (NaN or infinity)"
        raise InputError(f"a wave with {problem} cannot be written: check the step that made it")
    container, coding = FORMATS[format]
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(buffer, "w", sample_rate, 1, coding, format=container) as out:
            for begin in range(0, len(wave), ENCODE_BLOCK):
                out.write(np.asarray(wave[begin : begin + ENCODE_BLOCK], dtype=np.float32))
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"{format} cannot hold a wave at {sample_rate} Hz ({error.error_string}): write wav or resample to 24000 Hz"
        ) from error
    return buffer.getvalue()


def pcm16(wave: np.ndarray) -> np.ndarray:
    """The nearest 16-bit samples, little-endian int16 [N], of a wave [N]; 32767 is 1, and what is louder is clipped."""
    return np.round(wave.clip(-1.0, 1.0) * FULL_SCALE).astype("<i2")


def write_wave(path: Path, wave: np.ndarray, sample_rate: int) -> None:
    """`encode_wave` to a file, whole or not at all; the suffix names the format.

    Raises:
        InputError: as `encode_wave`.
    """
    write_bytes(path, encode_wave(wave, sample_rate, path.suffix.lower().removeprefix(".")))


@contextmanager
def _opened(path: Path) -> Iterator[_Recording]:
    # Not Path.is_dir and is_file, which raise for a name that no disk can hold.
    if os.path.isdir(path):  # noqa: PTH112
        raise InputError(f"{path} is a folder where one recording was expected: name a file in it")
    if not os.path.isfile(path):  # noqa: PTH113
        raise InputError(f"{path} does not exist: check the spelling, or the folder that the path is relative to")
    with _decodable(path) as decodable, _open_sound(path, decodable) as sound:
        if not RATES[0] <= sound.samplerate <= RATES[1]:
            raise InputError(
                f"{path} claims {sound.samplerate} samples a second, and no recorder makes that: its header is "
                "damaged, export it again, or leave it out"
            )
        recording = _measured(path, decodable, sound)
        if recording.samples <= 0:
            raise InputError(f"{path} holds no samples: record it again, or leave it out")
        yield recording


def _open_sound(path: Path, decodable: Path) -> soundfile.SoundFile:
    if decodable.suffix.lower() == ".raw":
        raise InputError(f"{path} has no header that tells its sample rate: convert it to wav or flac")
    try:
        return soundfile.SoundFile(decodable)
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"{path} is not audio that can be read ({error.error_string.strip()}): give wav, flac, mp3 or ogg"
        ) from error


@contextmanager
def _decodable(path: Path) -> Iterator[Path]:
    """The path itself, or a temporary wav that ffmpeg made of it."""
    if path.suffix.lower() not in FFMPEG_SUFFIXES:
        yield path
        return
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise InputError(
            f"{path} needs the program ffmpeg, which is not installed: install it, or convert the file to wav or flac"
        )
    with tempfile.TemporaryDirectory(prefix="cosytune-") as folder:
        decoded = Path(folder) / "decoded.wav"
        _run_ffmpeg(ffmpeg, path, decoded)
        yield decoded


def _run_ffmpeg(ffmpeg: str, path: Path, decoded: Path) -> None:
    # "file:" keeps a colon or a leading dash in the name from being taken for a protocol or an option.
    command = [ffmpeg, "-nostdin", "-v", "error", "-xerror", "-protocol_whitelist", "file"]
    command += ["-format_whitelist", FFMPEG_CONTAINERS, "-i", f"file:{path}", "-map", "0:a:0"]
    command += ["-c:a", "pcm_f32le", "-rf64", "auto", f"file:{decoded}"]
    patience = FFMPEG_PATIENCE[0] + FFMPEG_PATIENCE[1] * path.stat().st_size
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=patience)
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"ffmpeg did not finish decoding {path} in {patience:.0f} s: export the recording again as wav or flac"
        ) from error
    if done.returncode or not decoded.is_file():
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise InputError(f"ffmpeg cannot decode {path} ({reason[-1]}): export the recording again as wav or flac")


def _measured(path: Path, decodable: Path, sound: soundfile.SoundFile) -> _Recording:
    """The recording with its true length; refuses one whose container shows that its end is missing."""
    if sound.subtype == "MPEG_LAYER_III":
        return _measured_mp3(path, decodable.read_bytes(), sound)
    cut = (sound.format in ("WAV", "WAVEX") and _wav_is_cut(decodable)) or (
        sound.format == "OGG" and _ogg_is_cut(decodable)
    )
    if cut:
        raise _cut_off(path)
    return _Recording(sound, sound.frames, 0)


def _measured_mp3(path: Path, data: bytes, sound: soundfile.SoundFile) -> _Recording:
    """Compare the length that libsndfile believes (and never reads beyond) with the frames that are there."""
    held, has_table = _mp3_contents(data)
    if has_table and sound.frames > held + MP3_SLACK:
        raise _cut_off(path)
    if sound.frames < held - MP3_SLACK:
        raise InputError(
            f"{path} is an MP3 whose length cannot be trusted (it claims "
            f"{seconds_of_samples(sound.frames, sound.samplerate):.1f} s and holds "
            f"{seconds_of_samples(held, sound.samplerate):.1f} s): convert it to wav or flac"
        )
    # Without a table the claim is an estimate from the size of the file, and tags at its end count as speech.
    return _Recording(sound, sound.frames if has_table else min(sound.frames, held), 0 if has_table else MP3_SLACK)


def _span(path: Path, recording: _Recording, start: float, end: float | None) -> tuple[int, int]:
    """First and last + 1 sample of the part from `start` to `end` seconds."""
    rate, samples = recording.sound.samplerate, recording.samples
    stop = seconds_of_samples(samples, rate) if end is None else end
    if not (math.isfinite(start) and math.isfinite(stop) and 0 <= start < stop):
        raise InputError(f"the part from {start} s to {end} s of {path} is no part: give 0 <= start < end in seconds")
    first, last = samples_of_seconds(start, rate), samples_of_seconds(stop, rate)
    if last > samples + samples_of_seconds(CUT_SLACK, rate):
        raise InputError(
            f"{path} lasts {seconds_of_samples(samples, rate):.3f} s, but the part asked for ends at {stop} s: "
            f"correct `end`, or check that the manifest names the right recording"
        )
    last = min(last, samples)
    if first >= last:
        raise InputError(f"the part from {start} s to {end} s of {path} holds no samples: make it longer")
    return first, last


def _read_blocks(path: Path, recording: _Recording, first: int, last: int, step: int) -> Iterator[np.ndarray]:
    """Samples `first` to `last` in blocks [N <= step, channels] float32, at least one."""
    sound = recording.sound
    pre_roll = samples_of_seconds(PRE_ROLL, sound.samplerate)
    skipped = min(first, pre_roll)
    position = first
    try:
        if first:
            sound.seek(first - skipped)
        while position < last:
            wanted = min(step, last - position)
            block = sound.read(skipped + wanted, dtype="float32", always_2d=True)[skipped:]
            position += len(block)
            if len(block) < wanted and (last - position > recording.missing_allowed or position == first):
                raise _cut_off(path)
            if len(block):
                yield np.ascontiguousarray(block)
            if len(block) < wanted:
                return
            # soundfile seeks after every read, and after a seek an MP3 needs the frames before it again.
            skipped = min(position, pre_roll) if sound.subtype == "MPEG_LAYER_III" else 0
            if skipped:
                sound.seek(position - skipped)
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"{path} is damaged or cut off ({error.error_string.strip()}): copy or export it again, or leave it out"
        ) from error


def _finite(path: Path, samples: np.ndarray) -> np.ndarray:
    if not np.isfinite(samples).all():
        raise InputError(
            f"{path} holds samples that are not numbers (NaN or infinity): export the recording again, or leave it out"
        )
    return samples


def _cut_off(path: Path) -> InputError:
    return InputError(
        f"{path} is damaged or cut off (it ends before its header says): copy or export it again, or leave it out"
    )


def _wav_is_cut(path: Path) -> bool:
    """Whether the data chunk of a RIFF file claims more bytes than the file has."""
    size = path.stat().st_size
    with path.open("rb") as source:
        if source.read(4) != b"RIFF":
            return False
        source.seek(12)
        while len(header := source.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            if name == b"data":
                return length < WAV_STREAMED and source.tell() + length > size + WAV_SLACK
            source.seek(length + length % 2, io.SEEK_CUR)
    return False


def _ogg_is_cut(path: Path) -> bool:
    """Whether the last Ogg page (RFC 3533) is incomplete or lacks the end-of-stream flag."""
    with path.open("rb") as source:
        source.seek(max(0, path.stat().st_size - 2 * 65_307))
        tail = source.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or not page[5] & 4:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _mp3_contents(data: bytes) -> tuple[int, bool]:
    """Samples in the frames of an MP3 (ISO 11172-3 / 13818-3 layer III) and whether it begins with a table of them."""
    position, samples, table = 0, 0, False
    if data[:3] == b"ID3" and len(data) > 10:
        position = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    while 0 <= position <= len(data) - 4:
        size, held = _mp3_frame(data[position : position + 4])
        if not size or position + size > len(data):
            position = data.find(b"\xff", position + 1)
            continue
        if not samples:
            table = any(name in data[position : position + 64] for name in (b"Xing", b"Info"))
        samples += held
        position += size
    return samples, table


def _mp3_frame(header: bytes) -> tuple[int, int]:
    """Bytes and samples of the layer III frame with this four-byte header; (0, 0) if it is none."""
    (word,) = struct.unpack(">I", header)
    version, layer, bitrate, rate = word >> 19 & 3, word >> 17 & 3, word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return 0, 0
    first_version = version == 3
    kilobits = MP3_KILOBITS[first_version][bitrate - 1]
    hertz = (44_100, 48_000, 32_000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    samples = 1152 if first_version else 576
    return samples // 8 * kilobits * 1000 // hertz + (word >> 9 & 1), samples


MP3_KILOBITS = {
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of MPEG-1 (True) and of MPEG-2 and 2.5 (False)."""
