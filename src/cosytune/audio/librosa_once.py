"""librosa, loaded so that processes beside each other do not spoil its compiled code."""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np

from cosytune.files import lock

__all__ = ["load_librosa"]


@lru_cache(maxsize=1)
def load_librosa() -> ModuleType:
    """Import librosa and let it compile what we use, while other processes of this user wait.

    Numba keeps librosa's compiled functions in files that several processes may write at once. Two first imports
    beside each other left a cache whose parts did not belong together, and every later process that asked for F0
    crashed with a segmentation fault, until the environment was made anew (seen in one of two trials with four
    processes, numba 0.68, librosa 0.11). Without files each process would compile for 18 s.
    """
    held = lock(Path(tempfile.gettempdir()) / f"cosytune-librosa-{os.getuid()}.lock", wait=True)
    try:
        import librosa

        # The parts are imported, and so compiled, when they are first named.
        _ = librosa.feature.melspectrogram, librosa.effects.trim, librosa.resample
        librosa.yin(np.zeros(2048, dtype=np.float32), fmin=100.0, fmax=400.0, sr=16_000)
        return librosa
    finally:
        held.close()
