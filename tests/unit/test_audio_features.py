"""Mel, Whisper and Kaldi features: shapes, gradients, batches, caches and refusals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cosytune.audio.fbank import kaldi_fbank, kaldi_fbank_batch, mean_normalised
from cosytune.audio.mel import MEL_22K, MEL_24K, MelConfig, flow_mel, mel_filters, window_and_filters
from cosytune.audio.whisper import whisper_mel, whisper_mel_batch
from cosytune.errors import InputError

SMALL = MelConfig(sample_rate=8000, n_fft=64, win=48, hop=16, bins=6, fmax=None)


def noise(samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=40)
@given(
    samples=st.integers(721, 6000),
    config=st.sampled_from(
        [MEL_22K, MEL_24K, SMALL, *(MelConfig(16_000, 1024, win, 320, 80, 0, 8000) for win in (800, 1024))]
    ),
)
def test_flow_mel_has_a_frame_for_every_whole_hop(samples: int, config: MelConfig) -> None:
    assert flow_mel(noise(samples)[None], config).shape == (1, config.bins, samples // config.hop)


def test_minimum_length_is_exact() -> None:
    for config in (MEL_22K, MEL_24K, MelConfig(8000, 64, 64, 64, 4, 0, 4000)):
        shortest = config.minimum_samples
        assert flow_mel(noise(shortest)[None], config).shape[2] == shortest // config.hop >= 1
        with pytest.raises(InputError, match=rf"{shortest - 1} samples is too short .* at least {shortest}"):
            flow_mel(noise(shortest - 1)[None], config)


def test_flow_mel_of_a_batch_is_that_of_its_rows() -> None:
    waves = torch.stack([noise(5000, 1), noise(5000, 2)])
    together = flow_mel(waves, MEL_22K)
    for row in range(2):
        torch.testing.assert_close(together[row : row + 1], flow_mel(waves[row : row + 1], MEL_22K), atol=1e-5, rtol=0)


def test_flow_mel_of_silence_is_the_floor_and_has_finite_gradients() -> None:
    wave = torch.zeros(1, 4000, requires_grad=True)
    mel = flow_mel(wave, MEL_22K)
    mel.sum().backward()
    assert wave.grad is not None and torch.isfinite(wave.grad).all()
    assert torch.isfinite(mel).all() and mel.min() >= torch.log(torch.tensor(1e-5)) - 1e-4


def test_flow_mel_gradient_is_the_derivative() -> None:
    wave = noise(80).double()[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: flow_mel(x, SMALL), (wave,))


def test_filters_made_under_inference_mode_serve_training_later() -> None:
    window_and_filters.cache_clear()
    with torch.inference_mode():
        flow_mel(noise(4000)[None], MEL_22K)
    wave = noise(4000)[None].requires_grad_()
    flow_mel(wave, MEL_22K).mean().backward()  # spec B17: "inference tensors cannot be saved for backward"
    assert wave.grad is not None and wave.grad.abs().sum() > 0


def test_two_models_in_one_process_do_not_share_filters() -> None:
    low, high = (MelConfig(rate, 1024, 1024, 256, 80, 0, 8000) for rate in (22_050, 24_000))
    first = flow_mel(noise(4000)[None], low)
    assert not torch.allclose(first, flow_mel(noise(4000)[None], high), atol=1e-2)
    torch.testing.assert_close(flow_mel(noise(4000)[None], low), first)


def test_a_short_window_sits_in_the_middle_of_the_transform() -> None:
    config = MelConfig(16_000, 1024, 800, 320, 80, 0, 8000)
    wave = torch.zeros(1, 3200)
    frame = 4
    centre = frame * config.hop + config.hop // 2
    wave[0, centre - 399 : centre + 399] = noise(798)
    alone = flow_mel(wave, config)
    wave[0, : centre - 401] = 0.3
    wave[0, centre + 401 :] = 0.3
    torch.testing.assert_close(flow_mel(wave, config)[..., frame], alone[..., frame], atol=1e-4, rtol=0)


def test_features_stay_in_single_precision_under_autocast() -> None:
    wave = noise(4000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mel, whisper, fbank = flow_mel(wave[None], MEL_22K), whisper_mel(wave), kaldi_fbank(wave)
    for inside, outside in (
        (mel, flow_mel(wave[None], MEL_22K)),
        (whisper, whisper_mel(wave)),
        (fbank, kaldi_fbank(wave)),
    ):
        assert inside.dtype == torch.float32
        torch.testing.assert_close(inside, outside)


def test_filters_have_equal_area_and_stay_inside_their_edges() -> None:
    filters = mel_filters(24_000, 1920, 40, 100.0, 6000.0, torch.float64)
    assert filters.shape == (40, 961)
    frequencies = torch.arange(961) * 12.5
    outside = (frequencies <= 100) | (frequencies >= 6000)
    assert filters[:, outside].abs().max() < 1e-12
    # A triangle of height 2 / width has area 1, whatever its width; sampled every 12.5 Hz, the wide ones show it.
    torch.testing.assert_close(filters[20:].sum(dim=1) * 12.5, torch.ones(20, dtype=torch.float64), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"win": 1025}, "mel window must have 1 to n_fft = 1024 samples, not 1025"),
        ({"win": 0}, "mel window"),
        ({"hop": 1026}, "mel hop must be 1 to n_fft"),
        ({"hop": 255}, "even rest, not 255"),
        ({"bins": 0}, "at least one band, not 0"),
        ({"fmax": 9000.0}, r"<= 8000 Hz, got 0 to 9000 Hz"),
        ({"fmin": 8000.0}, "0 <= fmin < fmax"),
    ],
)
def test_wrong_mel_settings_are_refused(change: dict[str, float], message: str) -> None:
    settings_: dict = {"sample_rate": 16_000, "n_fft": 1024, "win": 1024, "hop": 256} | change
    with pytest.raises(ValueError, match=message):
        MelConfig(**settings_)


def test_wrong_filter_bank_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one band"):
        mel_filters(16_000, 400, 0)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"flow_mel takes waves \[B, N\]"):
        flow_mel(noise(4000), MEL_22K)
    with pytest.raises(ValueError, match="whisper_mel takes one wave"):
        whisper_mel(noise(4000)[None])
    with pytest.raises(ValueError, match="kaldi_fbank takes one wave"):
        kaldi_fbank(noise(4000)[None])
    with pytest.raises(ValueError, match="whisper_mel_batch needs at least one wave"):
        whisper_mel_batch([])
    with pytest.raises(ValueError, match="kaldi_fbank_batch needs at least one wave"):
        kaldi_fbank_batch([])


def test_waves_shorter_than_a_frame_are_refused() -> None:
    with pytest.raises(InputError, match="200 samples is too short for the speech tokenizer"):
        whisper_mel(noise(200))
    with pytest.raises(InputError, match="399 samples is too short for the speaker encoder"):
        kaldi_fbank(noise(399))
    assert whisper_mel(noise(201)).shape == (128, 1)
    assert kaldi_fbank(noise(400)).shape == (1, 80)


@settings(deadline=None, max_examples=20)
@given(lengths=st.lists(st.integers(400, 9000), min_size=1, max_size=4), bins=st.sampled_from([40, 80, 128]))
def test_batches_equal_one_by_one(lengths: list[int], bins: int) -> None:
    # Loudness differs by 60 dB: a floor taken over the batch would show.
    waves = [noise(n, seed) * 10.0 ** (-seed) for seed, n in enumerate(lengths)]
    mels, mel_frames = whisper_mel_batch(waves, bins)
    banks, bank_frames = kaldi_fbank_batch(waves, bins)
    normalised = mean_normalised(banks, bank_frames)
    assert mel_frames.tolist() == [n // 160 for n in lengths]
    assert bank_frames.tolist() == [1 + (n - 400) // 160 for n in lengths]
    for row, wave in enumerate(waves):
        frames, whole = mel_frames[row], bank_frames[row]
        alone = kaldi_fbank(wave, bins)
        torch.testing.assert_close(mels[row, :, :frames], whisper_mel(wave, bins), atol=1e-5, rtol=0)
        torch.testing.assert_close(banks[row, :whole], alone, atol=1e-4, rtol=0)
        torch.testing.assert_close(normalised[row, :whole], mean_normalised(alone), atol=1e-4, rtol=0)
        for padding in (mels[row, :, frames:], banks[row, whole:], normalised[row, whole:]):
            assert (padding == 0).all()


def test_whisper_floor_follows_the_loudest_band() -> None:
    wave = torch.cat([noise(8000), torch.zeros(8000)])
    features = whisper_mel(wave)
    assert features.max().item() - features.min().item() == pytest.approx(2.0, abs=1e-5)  # 8 decades over 4


def test_features_carry_no_gradient_and_leave_training_alone() -> None:
    wave = noise(4000).requires_grad_()
    assert not whisper_mel(wave).requires_grad and not kaldi_fbank(wave).requires_grad
    assert not whisper_mel(wave).is_inference() and not kaldi_fbank(wave).is_inference()
