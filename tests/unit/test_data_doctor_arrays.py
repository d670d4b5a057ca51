from __future__ import annotations

import numpy as np
import pytest

from cosytune.data.doctor import fingerprints
from cosytune.data.doctor.array_file import ArrayFile, Chosen
from cosytune.data.doctor.fingerprints import same_recordings


def test_arrays_come_back_from_the_disk() -> None:
    kept = [np.arange(5, dtype=np.uint32), None, np.array([7], np.uint32)]
    file = ArrayFile(np.uint32)
    for values in kept:
        file.append(values)
    assert len(file) == 3
    assert [file[number].tolist() for number in range(3)] == [[0, 1, 2, 3, 4], [], [7]]
    file.append(np.array([9], np.uint32))
    assert file[3].tolist() == [9] and file[0].dtype == np.uint32
    with pytest.raises(IndexError):
        file[4]
    assert [Chosen(file, [3, 0])[number].size for number in range(2)] == [1, 5]


def test_copies_are_the_same_however_few_frames_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    prints = [random.integers(1, 2**32, size=90, dtype=np.uint32) for _ in range(12)]
    prints += [prints[3][10:], prints[8][:70], prints[3][:80]]
    expected = same_recordings(prints)
    assert [(match.first, match.second) for match in expected] == [(3, 12), (3, 14), (8, 13), (12, 14)]
    file = ArrayFile(np.uint32)
    for bits in prints:
        file.append(bits)
    monkeypatch.setattr(fingerprints, "MOST_FRAMES", 100)
    assert same_recordings(file) == expected
