"""Up to which frequency a recording holds speech, whatever its sample rate promises."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d

from cosytune.data.doctor.spectra import power_spectra

__all__ = ["measure_bandwidth"]

FRAME_SECONDS = 0.032
HOP_SECONDS = 0.016
SMOOTH_HERTZ = 250.0
LOUD_SHARE, QUIET_SHARE = 0.97, 0.1
RANGE_DB = 52.0
"""Speech this far below its strongest band is not heard, and the images that poor converters leave are weaker."""

LIVELY_DB = 9.0
"""A band that carries speech is at least so much louder at its loudest than at its softest; steady noise is not."""

EDGE_HERTZ = 500.0


def measure_bandwidth(wave: np.ndarray, rate: int) -> tuple[float, float]:
    """Bandwidth of a wave [N] in Hz, and the dB by which its spectrum falls from 500 Hz below to 500 Hz above it.

    A band carries speech if it is loud at times (within 52 dB of the strongest band) and soft at other times. The
    width of the window hides what is nearer than 250 Hz to the edge. Silence has a bandwidth of 0.
    """
    size = 1 << round(np.log2(FRAME_SECONDS * rate))
    spectra = np.concatenate(list(power_spectra(wave, size, max(1, round(HOP_SECONDS * rate)))))
    width = max(1, round(SMOOTH_HERTZ * size / rate))
    smooth = uniform_filter1d(spectra, width, axis=1, mode="nearest")
    loud, quiet = np.quantile(smooth, [LOUD_SHARE, QUIET_SHARE], axis=0)
    loud, quiet = (10 * np.log10(np.maximum(values, 1e-15)) for values in (loud, quiet))
    carries = (loud > loud.max() - RANGE_DB) & (loud - quiet > LIVELY_DB) & (loud > -115.0)
    if not carries.any():
        return 0.0, 0.0
    top = int(np.flatnonzero(carries)[-1])
    reach = max(1, round(EDGE_HERTZ * size / rate))
    fall = float(loud[max(0, top - reach)] - loud[min(len(loud) - 1, top + reach)])
    return top * rate / size, fall if top + reach < len(loud) else 0.0
