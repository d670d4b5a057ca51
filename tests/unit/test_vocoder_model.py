"""The vocoder: recorded numbers at two sizes, geometry, devices and modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from cosytune.models.vocoder import Vocoder, VocoderConfig
from cosytune.models.vocoder.convert import from_released
from tests.unit.test_vocoder_config import tiny_config

FULL = VocoderConfig(
    sample_rate=22_050,
    hop=256,
    base_channels=512,
    upsample_rates=(8, 8),
    upsample_kernels=(16, 16),
    istft_n_fft=16,
    istft_hop=4,
    f0_width=512,
)
NANO = FULL.model_copy(update={"base_channels": 32, "f0_width": 32})


def tiny(seed: int = 0, **changes: Any) -> Vocoder:
    torch.manual_seed(seed)
    return Vocoder(tiny_config(**changes)).eval()


def random_mel(batch: int, frames: int, bins: int = 20) -> Tensor:
    return torch.randn(batch, bins, frames, generator=torch.Generator().manual_seed(7))


def test_nano_agrees_with_the_reference(golden: Path) -> None:
    expected = load_file(golden / "nano" / "expected.safetensors")
    vocoder = Vocoder(NANO).eval()
    vocoder.load_state_dict(from_released(torch.load(golden / "nano" / "hift.pt", weights_only=True)))
    with torch.inference_mode():
        f0 = vocoder.predict_f0(expected["hift.in.mel"])
        wave = vocoder.decode(expected["hift.in.mel"], expected["hift.in.source"])
    torch.testing.assert_close(f0, expected["hift.out.f0"], atol=1e-4, rtol=0)
    torch.testing.assert_close(wave, expected["hift.out.wave"], atol=1e-4, rtol=0)


@settings(max_examples=20, deadline=None)
@given(
    stages=st.lists(st.tuples(st.integers(2, 6), st.integers(0, 2)), min_size=1, max_size=3),
    istft=st.sampled_from([(8, 2), (16, 4), (12, 6)]),
    frames=st.integers(2, 5),
)
def test_any_rates_make_exactly_hop_samples_per_frame(
    stages: list[tuple[int, int]], istft: tuple[int, int], frames: int
) -> None:
    n_fft, step = istft
    hop = step
    for rate, _ in stages:
        hop *= rate
    assume(n_fft < 2 * hop)
    vocoder = tiny(
        base_channels=8,
        resblock_kernels=[3],
        resblock_dilations=[[1]],
        hop=hop,
        upsample_rates=[rate for rate, _ in stages],
        upsample_kernels=[rate + 2 * extra for rate, extra in stages],
        source_kernels=[3] * len(stages),
        source_dilations=[[1]] * len(stages),
        istft_n_fft=n_fft,
        istft_hop=step,
    )
    with torch.inference_mode():
        wave = vocoder(random_mel(1, frames), torch.Generator().manual_seed(0))
    assert wave.shape == (1, frames * hop)
    assert wave.isfinite().all()


@pytest.mark.parametrize("base_channels", [96, 192])
def test_shipped_geometry_speaks(base_channels: int) -> None:
    vocoder = tiny(base_channels=base_channels)
    with torch.inference_mode():
        assert vocoder(random_mel(2, 3), torch.Generator().manual_seed(0)).shape == (2, 960)


def test_batch_equals_single() -> None:
    vocoder, mel = tiny(), random_mel(3, 6)
    with torch.inference_mode():
        f0 = vocoder.predict_f0(mel) + 100
        phases, noise = torch.rand(3, 9), torch.randn(3, 6 * 320, 9)
        together = vocoder.decode(mel, vocoder.source(f0, phases=phases, noise=noise))
        for row in range(3):
            one = slice(row, row + 1)
            alone = vocoder.decode(mel[one], vocoder.source(f0[one], phases=phases[one], noise=noise[one]))
            torch.testing.assert_close(alone, together[one], atol=1e-5, rtol=0)


def test_same_generator_same_wave() -> None:
    vocoder, mel = tiny(), random_mel(1, 5)
    with torch.inference_mode():
        first, again, other = (vocoder(mel, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_wave_is_clamped() -> None:
    vocoder = tiny(audio_limit=0.25)
    with torch.no_grad():
        vocoder.get_parameter("conv_post.bias")[2] = 10.0  # one loud bin: all bins alike would cancel under the window
        wave = vocoder(random_mel(1, 4), torch.Generator().manual_seed(0))
    assert wave.abs().max().item() == 0.25


def test_overflowing_magnitudes_keep_gradients_finite() -> None:
    vocoder = tiny(audio_limit=1e9)
    with torch.no_grad():
        vocoder.get_parameter("conv_post.bias").fill_(200.0)  # exp(200) is infinite in float32
    wave = vocoder(random_mel(1, 4), torch.Generator().manual_seed(0))
    wave.square().mean().backward()
    assert wave.isfinite().all()
    assert all(p.grad.isfinite().all() for p in vocoder.parameters() if p.grad is not None)


def test_training_after_inference_mode() -> None:
    vocoder, mel = tiny(), random_mel(1, 4)
    with torch.inference_mode():
        vocoder(mel, torch.Generator().manual_seed(0))
    vocoder.train()
    (vocoder(mel, torch.Generator().manual_seed(0)).square().mean() + vocoder.predict_f0(mel).mean()).backward()
    missing = [name for name, parameter in vocoder.named_parameters() if parameter.grad is None]
    assert missing == []


def test_windows_are_not_in_the_state_and_move_along() -> None:
    vocoder = tiny()
    assert not any("window" in name or "harmonic_numbers" in name for name in vocoder.state_dict())
    moved = vocoder.to("meta")
    assert moved.window.is_meta
    assert moved.harmonic_source.harmonic_numbers.is_meta


def test_autocast_gives_a_float32_wave_close_to_full_precision() -> None:
    vocoder, mel = tiny(), random_mel(1, 6)
    with torch.inference_mode():
        full = vocoder(mel, torch.Generator().manual_seed(0))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            reduced = vocoder(mel, torch.Generator().manual_seed(0))
    assert reduced.dtype == torch.float32
    torch.testing.assert_close(reduced, full, atol=0.02, rtol=0)


def test_half_precision_module_runs() -> None:
    vocoder = tiny().to(torch.bfloat16)
    with torch.inference_mode():
        wave = vocoder(random_mel(1, 4).to(torch.bfloat16), torch.Generator().manual_seed(0))
    assert wave.isfinite().all()


def test_excitation_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"961 samples does not fit 3 mel frames: 3 x 320 = 960 are needed"):
        tiny().decode(random_mel(1, 3), torch.zeros(1, 1, 961))
