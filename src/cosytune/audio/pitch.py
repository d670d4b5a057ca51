"""Fundamental frequency on the mel frames: the vocoder's target and a measure of prosody."""

from __future__ import annotations

import numpy as np

from cosytune.audio.librosa_once import load_librosa

__all__ = ["pitch"]

FMIN, FMAX = 60.0, 500.0
"""Hz searched: low men to lively women."""
WINDOW_SECONDS = 0.05
"""Three periods of FMIN: enough to see a repetition, short enough to follow a glide."""
TROUGH = 0.15
"""YIN's threshold: the first lag whose normalised difference falls below it wins (0.1 to 0.15 in the paper)."""
PERIODICITY = 0.6
"""A voiced frame correlates at least this much with itself one period later."""
LOUDNESS = 0.03
"""A voiced frame has at least this part of the loudest frame's RMS (-30 dB)."""
SILENCE = 1e-4
"""RMS below which nothing is voiced, whatever the loudest frame."""
OUTLIER_OCTAVES = 0.45
CONTEXT_SECONDS = 0.15


def pitch(wave: np.ndarray, sample_rate: int, hop: int, frames: int) -> np.ndarray:
    """F0 of every mel frame by YIN (de Cheveigné & Kawahara 2002, librosa's) with our voicing rule.

    A frame is voiced if it is loud enough, repeats itself after the period found and lies within half an octave of the
    voiced frames around it (octave errors become unvoiced rather than wrong). The window is centred where the
    flow mel's is: on f * hop + hop / 2.

    Args:
        wave: [N] in [-1, 1].
        sample_rate: Hz, above 1000.
        hop: samples per frame.
        frames: F wanted, usually floor(N / hop); silence is assumed beyond the wave.

    Returns:
        [F] float32 Hz, 0 where unvoiced.

    Raises:
        ValueError: the wave is not [N], or a number is out of range.
    """
    if wave.ndim != 1:
        raise ValueError(f"pitch takes one wave [N], got shape {list(wave.shape)}")
    if sample_rate <= 2 * FMAX or hop <= 0 or frames < 0:
        raise ValueError(
            f"pitch needs more than {2 * FMAX:g} Hz, a positive hop and frames >= 0, "
            f"got {sample_rate} Hz, hop {hop}, {frames} frames"
        )
    if frames == 0:
        return np.zeros(0, dtype=np.float32)
    window = 2 * round(WINDOW_SECONDS * sample_rate / 2)
    padded = _centred(wave.astype(np.float32), window, hop, frames)
    f0 = load_librosa().yin(  # slow to load: only who asks for pitch pays
        padded,
        fmin=FMIN,
        fmax=FMAX,
        sr=sample_rate,
        frame_length=window,
        hop_length=hop,
        trough_threshold=TROUGH,
        center=False,
    )
    framed = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    f0[~_periodic(framed, np.rint(sample_rate / f0).astype(int))] = 0.0
    _drop_octave_errors(f0, context=max(1, round(CONTEXT_SECONDS * sample_rate / hop)))
    return f0.astype(np.float32)


def _centred(wave: np.ndarray, window: int, hop: int, frames: int) -> np.ndarray:
    """The wave laid out so that the window starting at f * hop has sample f * hop + hop / 2 in its middle."""
    size = (frames - 1) * hop + window
    left = window // 2 - hop // 2
    start = max(0, -left)
    padded = np.zeros(size, dtype=wave.dtype)
    piece = wave[start : start + size - max(0, left)]
    padded[max(0, left) : max(0, left) + len(piece)] = piece
    return padded


def _periodic(framed: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """[F] bool: loud enough and like itself `lags` samples later; `framed` is [F, window]."""
    rms = np.sqrt(np.mean(np.square(framed, dtype=np.float64), axis=1))
    voiced = rms > max(SILENCE, LOUDNESS * rms.max())
    for frame in np.flatnonzero(voiced):
        now, later = framed[frame, : -lags[frame]], framed[frame, lags[frame] :]
        now, later = now - now.mean(), later - later.mean()
        voiced[frame] = now @ later > PERIODICITY * np.sqrt((now @ now) * (later @ later))
    return voiced


def _drop_octave_errors(f0: np.ndarray, context: int) -> None:
    """Unvoice, in place, frames far from the median of the voiced frames within `context` frames."""
    voiced = np.flatnonzero(f0)
    octaves = np.full(len(f0), np.nan)
    octaves[voiced] = np.log2(f0[voiced])
    for frame in voiced:
        nearby = octaves[max(0, frame - context) : frame + context + 1]
        if abs(octaves[frame] - np.nanmedian(nearby)) > OUTLIER_OCTAVES:
            f0[frame] = 0.0
