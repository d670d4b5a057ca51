"""Reading and writing recordings, and every way in which a file can be wrong."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from cosytune.audio.files import WaveInfo, encode_wave, pcm16, read_wave, wave_blocks, wave_info, write_wave
from cosytune.audio.resample import resample
from cosytune.errors import InputError

RATE = 24_000
CLOSE = {"wav": 2e-5, "flac": 2e-5, "mp3": 0.01, "ogg": 0.01}
"""RMS difference after writing and reading: half a 16-bit step for the exact formats, a codec's noise for others."""


def tune(samples: int, seed: int = 0) -> np.ndarray:
    """A smooth wave that no codec finds hard, without repetition."""
    t = np.arange(samples) / RATE
    return (0.3 * np.sin(2 * np.pi * (200 + 30 * seed + 150 * t) * t)).astype(np.float32)


@pytest.mark.parametrize("format", list(CLOSE))
def test_what_is_written_is_read(tmp_path: Path, format: str) -> None:
    path, wave = tmp_path / "deep" / f"a.{format.upper()}", tune(3 * RATE)
    write_wave(path, wave, RATE)
    back, rate = read_wave(path)
    assert rate == RATE and back.dtype == np.float32 and len(back) == len(wave)
    assert np.sqrt(np.mean((back - wave) ** 2)) < CLOSE[format]
    assert wave_info(path) == WaveInfo(3.0, RATE, 1)
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no halves left behind


@settings(deadline=None, max_examples=25)
@given(
    wave=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=300),
    rate=st.sampled_from([8000, 16_000, 22_050, 48_000]),
    format=st.sampled_from(["wav", "flac"]),
)
def test_sixteen_bits_are_kept(tmp_path_factory: pytest.TempPathFactory, wave: list, rate: int, format: str) -> None:
    path = tmp_path_factory.mktemp("wave") / f"a.{format}"
    write_wave(path, np.array(wave, dtype=np.float32), rate)
    back, read_rate = read_wave(path)
    assert read_rate == rate and np.abs(back - np.array(wave)).max() <= 1 / 32_768 + 1e-6


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), channels=st.integers(1, 6), samples=st.integers(1, 500))
def test_channels_are_averaged(
    tmp_path_factory: pytest.TempPathFactory, seed: int, channels: int, samples: int
) -> None:
    block = np.random.default_rng(seed).uniform(-1, 1, (samples, channels)).astype(np.float32)
    path = tmp_path_factory.mktemp("wave") / "a.wav"
    soundfile.write(path, block, RATE, subtype="FLOAT")
    assert wave_info(path).channels == channels
    np.testing.assert_allclose(read_wave(path)[0], block.mean(axis=1), atol=1e-6)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for format in CLOSE:
        write_wave(folder / f"a.{format}", tune(3 * RATE), RATE)
    return folder


@settings(deadline=None, max_examples=40)
@given(
    format=st.sampled_from(list(CLOSE)),
    edges=st.tuples(st.floats(0, 3), st.floats(0, 3)).map(sorted).filter(lambda e: e[1] - e[0] > 1e-3),
)
def test_a_part_is_the_slice_of_the_whole(recordings: Path, format: str, edges: list[float]) -> None:
    whole, _ = read_wave(recordings / f"a.{format}")
    part, rate = read_wave(recordings / f"a.{format}", start=edges[0], end=edges[1])
    first, last = round(edges[0] * rate), round(edges[1] * rate)
    assert len(part) == last - first
    np.testing.assert_allclose(part, whole[first:last], atol=1e-6)


def test_a_part_can_be_resampled(recordings: Path) -> None:
    whole, _ = read_wave(recordings / "a.wav")
    part, rate = read_wave(recordings / "a.wav", sample_rate=16_000, start=0.5, end=1.5)
    assert rate == 16_000 and len(part) == 16_000
    np.testing.assert_array_equal(part, resample(whole[RATE // 2 : 3 * RATE // 2], RATE, 16_000))


def test_an_end_rounded_by_another_tool_is_accepted(recordings: Path) -> None:
    assert len(read_wave(recordings / "a.flac", start=1.0, end=3.04)[0]) == 2 * RATE


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (0.0, 3.06, r"a\.wav lasts 3\.000 s, but the part asked for ends at 3\.06 s: correct `end`"),
        (2.0, 1.0, r"from 2\.0 s to 1\.0 s of .*a\.wav is no part: give 0 <= start < end"),
        (-1.0, 1.0, "is no part"),
        (float("nan"), None, "is no part"),
        (0.0, float("inf"), "is no part"),
        (3.5, None, "is no part"),
        (1.0, 1.000001, "holds no samples: make it longer"),
        (3.01, 3.02, "holds no samples"),
    ],
)
def test_parts_that_do_not_exist(recordings: Path, start: float, end: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_wave(recordings / "a.wav", start=start, end=end)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for read in (read_wave, wave_info):
        with pytest.raises(InputError, match=r"none\.wav does not exist: check the spelling"):
            read(tmp_path / "none.wav")
        with pytest.raises(InputError, match="is a folder where one recording was expected"):
            read(tmp_path)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.ogg", "a.txt"])
@pytest.mark.parametrize("data", [b"", b"these are words and not a recording " * 40])
def test_not_audio(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name} is not audio that can be read \(.*\): give wav, flac, mp3 or ogg"):
        read_wave(tmp_path / name)


@pytest.mark.parametrize("rate", [1, 2**31 - 1])
def test_a_rate_that_no_recorder_makes(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(400, np.float32), 16_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(InputError, match=f"claims {rate} samples a second, and no recorder makes that"):
        read_wave(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["x" * 300 + ".wav", "nul\0.wav"])
def test_a_name_that_no_disk_can_hold(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_wave(tmp_path / name)


def test_headerless_samples(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(100))
    with pytest.raises(InputError, match="no header that tells its sample rate: convert it"):
        read_wave(tmp_path / "a.raw")


def test_no_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
    with pytest.raises(InputError, match=r"a\.wav holds no samples: record it again"):
        read_wave(tmp_path / "a.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_numbers(tmp_path: Path, bad: float) -> None:
    wave = tune(RATE)
    wave[77] = bad
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    with pytest.raises(InputError, match=r"a\.wav holds samples that are not numbers"):
        read_wave(tmp_path / "a.wav")
    assert len(read_wave(tmp_path / "a.wav", start=0.5)[0]) == RATE // 2  # the good part can still be used


@pytest.mark.parametrize(
    ("format", "kept"),
    # An MP3's last frames may be padding: the loss of its last 60 ms cannot be told from it.
    [(format, kept) for format in CLOSE for kept in (0.5, 0.8, 0.99) if (format, kept) != ("mp3", 0.99)],
)
def test_a_file_that_was_not_copied_to_its_end(tmp_path: Path, format: str, kept: float) -> None:
    data = encode_wave(tune(6 * RATE), RATE, format)
    (tmp_path / f"a.{format}").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match=r"is damaged or cut off .*: copy or export it again, or leave it out"):
        read_wave(tmp_path / f"a.{format}")


def test_an_ogg_whose_last_page_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "a.ogg").write_bytes(encode_wave(tune(RATE), RATE, "ogg")[:-5])
    with pytest.raises(InputError, match="cut off"):
        wave_info(tmp_path / "a.ogg")


@pytest.mark.parametrize("format", ["flac", "ogg"])
def test_a_damaged_middle(tmp_path: Path, format: str) -> None:
    data = bytearray(encode_wave(tune(3 * RATE), RATE, format))
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(range(100)) * 3
    (tmp_path / f"a.{format}").write_bytes(data)
    with pytest.raises(InputError, match="is damaged or cut off"):
        read_wave(tmp_path / f"a.{format}")


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_FFFF])
def test_a_wav_written_to_a_pipe_is_whole(tmp_path: Path, size: int) -> None:
    data = bytearray(encode_wave(tune(RATE), RATE, "wav"))
    data[40:44] = struct.pack("<I", size)  # the writer did not know the length beforehand
    (tmp_path / "a.wav").write_bytes(data)
    assert len(read_wave(tmp_path / "a.wav")[0]) == RATE


def test_a_big_endian_wav_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tune(RATE), RATE, endian="BIG")
    assert len(read_wave(tmp_path / "a.wav")[0]) == RATE


def without_table(data: bytes) -> bytes:
    """The same MP3 without the first frame, which holds the table that tells its length."""
    start = data.index(b"\xff", data.index(b"Info" if b"Info" in data[:100] else b"Xing"))
    while data[start : start + 2] not in (b"\xff\xf3", b"\xff\xfb", b"\xff\xf2", b"\xff\xfa"):
        start = data.index(b"\xff", start + 1)
    return data[start:]


def mp3(wave: np.ndarray, bitrate_mode: str) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", RATE, 1, "MPEG_LAYER_III", format="MP3", compression_level=0.5, bitrate_mode=bitrate_mode
    ) as out:
        out.write(wave)
    return buffer.getvalue()


def test_an_mp3_with_a_tag_and_no_table_is_read_whole(tmp_path: Path) -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
    (tmp_path / "a.mp3").write_bytes(tag + without_table(mp3(tune(3 * RATE), "CONSTANT")) + b"TAG" + bytes(125))
    wave, rate = read_wave(tmp_path / "a.mp3")
    assert len(wave) / rate == pytest.approx(3.0, abs=0.2)
    assert wave_info(tmp_path / "a.mp3").seconds == pytest.approx(3.0, abs=0.2)


def test_an_mp3_whose_length_the_decoder_overestimates(tmp_path: Path) -> None:
    silent_then_loud = np.zeros(6 * RATE, dtype=np.float32)
    silent_then_loud[4 * RATE :] = 0.3 * np.random.default_rng(0).standard_normal(2 * RATE)
    path = tmp_path / "a.mp3"
    path.write_bytes(without_table(mp3(silent_then_loud, "VARIABLE")))
    assert soundfile.info(path).duration > 8  # guessed from the first frame's bit rate
    assert wave_info(path).seconds == pytest.approx(6.0, abs=0.2)
    assert len(read_wave(path)[0]) / RATE == pytest.approx(6.0, abs=0.2)


def test_an_mp3_of_which_the_decoder_would_drop_the_end(tmp_path: Path) -> None:
    loud_then_silent = np.zeros(6 * RATE, dtype=np.float32)
    loud_then_silent[: 2 * RATE] = 0.3 * np.random.default_rng(0).standard_normal(2 * RATE)
    (tmp_path / "a.mp3").write_bytes(without_table(mp3(loud_then_silent, "VARIABLE")))
    with pytest.raises(InputError, match=r"length cannot be trusted \(it claims .* s and holds 6\.\d s\): convert it"):
        read_wave(tmp_path / "a.mp3")


def test_two_mp3_in_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(2 * encode_wave(tune(3 * RATE), RATE, "mp3"))
    with pytest.raises(InputError, match="length cannot be trusted"):
        read_wave(tmp_path / "a.mp3")


FAKE_FFMPEG = """#!{python}
import sys, shutil
source, target = sys.argv[sys.argv.index("-i") + 1], sys.argv[-1]
assert source.startswith("file:") and target.startswith("file:")
with open(source[5:], "rb") as file:
    if file.read(4) != b"RIFF":
        sys.exit("line one\\nInvalid data found when processing input")
shutil.copy(source[5:], target[5:])
"""


@pytest.fixture
def fake_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that "decodes" an m4a which is a wav inside: our command line and errors are what is tested."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FAKE_FFMPEG.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


@pytest.mark.usefixtures("fake_ffmpeg")
def test_m4a_goes_through_ffmpeg(tmp_path: Path) -> None:
    path = tmp_path / "-v: a $(b).m4a"
    path.write_bytes(encode_wave(tune(RATE), RATE, "wav"))
    assert wave_info(path) == WaveInfo(1.0, RATE, 1)
    assert len(read_wave(path, start=0.25, end=0.5)[0]) == RATE // 4


@pytest.mark.usefixtures("fake_ffmpeg")
def test_m4a_that_ffmpeg_refuses(tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_bytes(b"no sound")
    with pytest.raises(InputError, match=r"ffmpeg cannot decode .*a\.m4a \(Invalid data found .*\): export"):
        read_wave(tmp_path / "a.m4a")


def test_ffmpeg_may_open_one_file_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport sys, time\nprint(*sys.argv, file=sys.stderr)\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    (tmp_path / "a.m4a").write_bytes(b"#EXTM3U")
    with pytest.raises(InputError, match=r"-protocol_whitelist file -format_whitelist mov,\S+ -i file:/\S+a\.m4a "):
        read_wave(tmp_path / "a.m4a")
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    monkeypatch.setattr("cosytune.audio.files.FFMPEG_PATIENCE", (0.2, 0.0))
    with pytest.raises(InputError, match=r"ffmpeg did not finish decoding \S+a\.m4a in 0 s: export"):
        read_wave(tmp_path / "a.m4a")


def test_m4a_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.m4a").write_bytes(b"whatever")
    with pytest.raises(InputError, match="needs the program ffmpeg, which is not installed: install it, or convert"):
        read_wave(tmp_path / "a.m4a")


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'m4a' is not a format we write: choose one of wav, flac, mp3, ogg"):
        write_wave(tmp_path / "a.m4a", tune(RATE), RATE)
    assert not list(tmp_path.iterdir())


def test_a_rate_that_the_format_lacks() -> None:
    with pytest.raises(InputError, match=r"mp3 cannot hold a wave at 96000 Hz .*: write wav or resample"):
        encode_wave(tune(RATE), 96_000, "mp3")


def test_waves_that_cannot_be_written() -> None:
    with pytest.raises(InputError, match="a wave with no samples cannot be written"):
        encode_wave(np.zeros(0, dtype=np.float32), RATE, "wav")
    with pytest.raises(InputError, match=r"samples that are not numbers .* cannot be written"):
        encode_wave(np.array([0.0, np.nan], dtype=np.float32), RATE, "flac")
    with pytest.raises(ValueError, match=r"encode_wave takes one channel \[N\], got shape \[1, 9\]"):
        encode_wave(np.zeros((1, 9), dtype=np.float32), RATE, "wav")


def test_loud_samples_are_clipped_and_not_wrapped(tmp_path: Path) -> None:
    write_wave(tmp_path / "a.wav", np.array([1.5, -1.5, 0.0], dtype=np.float32), RATE)
    assert read_wave(tmp_path / "a.wav")[0] == pytest.approx([1.0, -1.0, 0.0], abs=1e-4)


def test_a_long_ogg_does_not_end_the_process() -> None:
    code = (
        "import numpy, cosytune.audio.files as f; "
        "print(len(f.encode_wave(numpy.zeros(24000 * 120, dtype='float32'), 24000, 'ogg')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 1000


def test_recordings_as_people_have_them(shared: Path) -> None:
    stereo = sorted((shared / "speech" / "raw_folder").glob("*.wav"))[0]
    assert wave_info(stereo).sample_rate == 48_000 and wave_info(stereo).channels == 2
    wave, rate = read_wave(stereo, sample_rate=24_000)
    assert rate == 24_000 and len(wave) / rate == pytest.approx(wave_info(stereo).seconds, abs=1e-4)
    assert 0.01 < np.abs(wave).max() <= 1.0


@pytest.mark.parametrize("format", list(CLOSE))
@pytest.mark.parametrize(("start", "end"), [(0.0, None), (0.7, 2.9), (0.3, 0.4)])
def test_blocks_are_the_wave(tmp_path: Path, format: str, start: float, end: float | None) -> None:
    path = tmp_path / f"a.{format}"
    write_wave(path, tune(3 * RATE), RATE)
    blocks = list(wave_blocks(path, 0.25, start, end))
    whole, _ = read_wave(path, None, start, end)
    assert {rate for _, rate in blocks} == {RATE}
    assert all(len(block) == RATE // 4 for block, _ in blocks[:-1])
    np.testing.assert_allclose(np.concatenate([block for block, _ in blocks]), whole, atol=2e-3)


def test_a_broken_block_is_refused_when_it_is_reached(tmp_path: Path) -> None:
    wave = tune(RATE)
    wave[-10] = np.nan
    soundfile.write(tmp_path / "a.wav", wave, RATE, "FLOAT")
    blocks = wave_blocks(tmp_path / "a.wav", 0.5)
    next(blocks)
    with pytest.raises(InputError, match="NaN or infinity"):
        next(blocks)


@given(st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=50))
def test_16_bit_samples_are_the_nearest(samples: list[float]) -> None:
    wave = np.array(samples, dtype=np.float32)
    found = pcm16(wave)
    assert found.dtype == np.dtype("<i2")
    assert np.abs(found / 32767.0 - wave.clip(-1, 1)).max() <= 0.5 / 32767 + 1e-7
