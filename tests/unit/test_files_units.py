"""Clock arithmetic refuses remainders, and what is written is whole or not there."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosytune import files
from cosytune.files import (
    hash_file,
    hash_json,
    lock,
    write_bytes,
    write_folder,
    write_json,
    write_json_lines,
    write_text,
)
from cosytune.units import (
    Clock,
    exact_div,
    feature_frames,
    samples_of_seconds,
    seconds_of_samples,
)

WHOLE = Clock(16_000, 320, 25)
RELEASED = Clock(22_050, 256, 50)
COUNTS = st.integers(0, 10**7)
CLOCKS = st.sampled_from([WHOLE, RELEASED, Clock(24_000, 480, 25)])


@given(COUNTS, st.integers(1, 10**4))
def test_exact_division_is_the_inverse_of_multiplication(quotient: int, divisor: int) -> None:
    assert exact_div(quotient * divisor, divisor) == quotient


@given(COUNTS, st.integers(2, 10**4), st.data())
def test_remainders_are_refused(quotient: int, divisor: int, data: st.DataObject) -> None:
    rest = data.draw(st.integers(1, divisor - 1))
    with pytest.raises(ValueError, match=rf"not a multiple of {divisor} \(remainder {rest}\)"):
        exact_div(quotient * divisor + rest, divisor)


@pytest.mark.parametrize("divisor", [0, -3])
def test_divisors_are_positive(divisor: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        exact_div(6, divisor)


@given(COUNTS, st.sampled_from([8_000, 16_000, 22_050, 24_000, 44_100, 48_000]))
def test_samples_and_seconds_are_inverse(samples: int, rate: int) -> None:
    assert samples_of_seconds(seconds_of_samples(samples, rate), rate) == samples


def test_wrong_durations() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        samples_of_seconds(-0.1, 16_000)
    with pytest.raises(ValueError, match="must be positive"):
        seconds_of_samples(1, 0)


@given(COUNTS)
def test_feature_frames_are_whole_hundredths(samples: int) -> None:
    assert feature_frames(samples) * 160 <= samples < (feature_frames(samples) + 1) * 160


@given(st.integers(0, 10**5), CLOCKS)
def test_frames_of_tokens_follow_the_ratio_and_never_exceed_it(tokens: int, clock: Clock) -> None:
    frames = clock.frames_of_tokens(tokens)
    assert frames <= tokens * clock.frames_per_token + 1e-6
    assert frames > tokens * clock.frames_per_token - 1 - 1e-6
    assert clock.frames_of_tokens(tokens + 1) >= frames


@given(st.integers(0, 10**5))
def test_whole_ratios_are_exact(tokens: int) -> None:
    assert WHOLE.frames_of_tokens(tokens) == 2 * tokens
    assert Clock(24_000, 480, 25).frames_of_tokens(tokens) == 2 * tokens


@given(st.integers(0, 10**5), CLOCKS)
def test_tokens_cover_all_feature_frames(frames: int, clock: Clock) -> None:
    stride = 100 // clock.token_rate
    tokens = clock.tokens_of_feature_frames(frames)
    assert (tokens - 1) * stride < frames <= tokens * stride or frames == tokens == 0
    assert clock.seconds_of_tokens(tokens) >= frames / 100 - 1e-9


def test_figures_of_the_released_model() -> None:
    assert RELEASED.frame_rate == pytest.approx(86.1328, abs=1e-4)
    assert RELEASED.frames_per_token == pytest.approx(1.7227, abs=1e-4)
    assert [RELEASED.frames_of_tokens(count) for count in (0, 1, 10, 50)] == [0, 1, 17, 86]
    assert RELEASED.tokens_of_seconds(1.0) == 50
    assert WHOLE.tokens_of_seconds(1.01) == 26


@pytest.mark.parametrize(
    ("numbers", "words"),
    [((0, 1, 25), "sample_rate must be positive"), ((1, -1, 25), "hop must"), ((16_000, 320, 33), "not a multiple")],
)
def test_impossible_clocks(numbers: tuple[int, int, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Clock(*numbers)


def test_writing_and_hashing(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "a", b"abc")
    assert hash_file(tmp_path / "new" / "a") == hashlib.sha256(b"abc").hexdigest()
    write_text(tmp_path / "t", "嗨")
    write_json(tmp_path / "j", {"嗨": 1})
    write_json_lines(tmp_path / "l", [1, {"a": 2}])
    assert (tmp_path / "t").read_text(encoding="utf-8") == "嗨"
    assert "嗨" in (tmp_path / "j").read_text(encoding="utf-8")
    assert [json.loads(line) for line in (tmp_path / "l").read_text().splitlines()] == [1, {"a": 2}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j", "l", "new", "t"]


def test_the_longest_name_that_a_disk_can_hold(tmp_path: Path) -> None:
    name = "声" * 84 + "abc"  # 255 bytes
    write_text(tmp_path / name, "whole")
    with write_folder(tmp_path / name[1:]) as partial:
        (partial / "a").write_text("whole")
    assert (tmp_path / name).read_text() == (tmp_path / name[1:] / "a").read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 2


def test_numbers_that_json_does_not_know_are_null(tmp_path: Path) -> None:
    write_json(tmp_path / "j", {"a": [float("nan"), 1.5], "b": (float("inf"), "NaN")})
    assert json.loads((tmp_path / "j").read_text()) == {"a": [None, 1.5], "b": [None, "NaN"]}


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_equal_values_have_equal_hashes(value: dict[str, int | str]) -> None:
    assert hash_json(value) == hash_json(dict(reversed(list(value.items()))))
    assert hash_json(value) != hash_json([value])


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_file_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "a"
    write_text(path, "old")

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(type(error)):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_an_interrupted_folder_leaves_the_old_one(tmp_path: Path) -> None:
    for text in ("old", "newer"):
        with write_folder(tmp_path / "f") as partial:
            (partial / "a").write_text(text)
            assert not (tmp_path / "f" / "a").exists() or (tmp_path / "f" / "a").read_text() == "old"
    with pytest.raises(KeyboardInterrupt), write_folder(tmp_path / "f") as partial:
        (partial / "a").write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "f" / "a").read_text() == "newer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_folder_that_cannot_be_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with write_folder(tmp_path / "f") as partial:
        (partial / "a").write_text("old")
    rename = Path.rename

    def fail_at_last(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError("no rename")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_at_last)
    with pytest.raises(OSError, match="no rename"), write_folder(tmp_path / "f") as partial:
        (partial / "a").write_text("new")
    assert (tmp_path / "f" / "a").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine")
    with pytest.raises(NotADirectoryError, match="give another name"), write_folder(tmp_path / "f"):
        pass
    assert (tmp_path / "f").read_text() == "mine"


def test_a_lock_keeps_others_out_until_it_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".lock"
    with lock(path, wait=False), pytest.raises(BlockingIOError):
        lock(path, wait=False)
    with lock(path, wait=False):
        pass


def test_a_killed_process_lets_go_of_its_lock(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    program = f"from pathlib import Path; from cosytune.files import lock; held = lock(Path({str(path)!r}), wait=False)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{program}; print('held', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError):
            lock(path, wait=False)
        holder.kill()
        holder.wait()
        lock(path, wait=True).close()
