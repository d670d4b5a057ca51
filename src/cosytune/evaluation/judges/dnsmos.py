"""Is it clean? Predicted listener opinion by DNSMOS (ITU-T P.835 and P.808; models in the wheel of `speechmos`).

Source: Reddy, Gopal, Cutler, "DNSMOS P.835", ICASSP 2022. It was trained on noisy and denoised human speech: it hears
noise and distortion, not whether a voice sounds human.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cosytune.audio.librosa_once import load_librosa
from cosytune.evaluation.judges.base import JUDGE_RATE, Recording, heard, is_silent, load_package, package_version
from cosytune.evaluation.results import OPINION, MetricInfo

__all__ = ["DnsmosJudge"]

LOWEST_OPINION = 1.0
"""The bottom of the opinion scale; silence gets it, because a system that says nothing must not look clean."""

KEYS = {"dnsmos_ovrl": "ovrl_mos", "dnsmos_sig": "sig_mos", "dnsmos_bak": "bak_mos", "dnsmos_p808": "p808_mos"}
ABOUT = {
    "dnsmos_ovrl": "overall quality (P.835)",
    "dnsmos_sig": "quality of the speech itself (P.835)",
    "dnsmos_bak": "absence of background noise (P.835)",
    "dnsmos_p808": "overall quality (P.808)",
}


class DnsmosJudge:
    """Four predicted opinions. Clips under nine seconds are repeated until they fill its window, as its authors do."""

    name = "dnsmos"
    metrics = tuple(MetricInfo(name, OPINION, True, "dnsmos", about) for name, about in ABOUT.items())

    @property
    def version(self) -> str:
        """Packages that decide the numbers."""
        return f"{package_version('speechmos')}, {package_version('onnxruntime')}"

    @cached_property
    def _model(self) -> Any:
        load_librosa()
        # First: speechmos imports it too, and would be named instead.
        runtime = load_package("onnxruntime", "pip install onnxruntime")
        package = load_package("speechmos.dnsmos", "pip install speechmos")
        folder = Path(str(package.__file__)).parent / "dnsmos_models"
        primary, p808 = str(folder / "sig_bak_ovr.onnx"), str(folder / "model_v8.onnx")
        model = package.DNSMOS(primary, p808)
        # One thread: the same sums on every machine, and room for the work beside it.
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model.onnx_sess = runtime.InferenceSession(primary, options, providers=["CPUExecutionProvider"])
        model.p808_onnx_sess = runtime.InferenceSession(p808, options, providers=["CPUExecutionProvider"])
        return model

    def score(self, wave: np.ndarray, sample_rate: int, text: str, references: Sequence[Recording]) -> dict[str, float]:
        """`dnsmos_ovrl`, `_sig`, `_bak` and `_p808` of a wave float32 [N]; text and references are not used.

        Raises:
            InputError: the wave cannot be judged.
            MissingPackageError: speechmos or onnxruntime is not installed.
        """
        wave = heard(wave, sample_rate)
        if is_silent(wave, JUDGE_RATE):
            return dict.fromkeys(KEYS, LOWEST_OPINION)
        opinion = self._model(wave, JUDGE_RATE, False)
        return {name: float(opinion[key]) for name, key in KEYS.items()}
