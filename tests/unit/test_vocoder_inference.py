"""The vocoder for speaking: the trained one's numbers, whole, in pieces and in batches."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from cosytune.models.layers.noise import NoiseTape
from cosytune.models.sizes import family_size
from cosytune.models.vocoder import Vocoder, VocoderConfig, filters
from cosytune.models.vocoder import stream as stream_module
from cosytune.models.vocoder.convert import from_released
from cosytune.models.vocoder.inference import InferenceVocoder, for_inference
from cosytune.models.vocoder.stream import VocoderStream, look_ahead, samples_known, vocode
from tests.unit.test_vocoder_config import tiny_config
from tests.unit.test_vocoder_model import NANO, random_mel

HIGH_RATES: dict[str, Any] = {
    "base_channels": 16,
    "sample_rate": 24_000,
    "hop": 480,
    "upsample_rates": (8, 5, 3),
    "upsample_kernels": (16, 11, 7),
    "istft_n_fft": 16,
    "istft_hop": 4,
    "source_kernels": (3, 5, 7),
    "source_dilations": ((1, 3),) * 3,
    "resblock_kernels": (3, 11),
    "resblock_dilations": ((1,), (1, 5)),
}
UNEVEN_OVERLAP: dict[str, Any] = {"hop": 210, "upsample_rates": (5, 6), "upsample_kernels": (5, 12), "istft_hop": 7}
UNEVEN_OVERLAP |= {"istft_n_fft": 20}
GEOMETRIES: list[dict[str, Any]] = [{}, HIGH_RATES, UNEVEN_OVERLAP]


def loud(config: VocoderConfig, seed: int = 0) -> Vocoder:
    """Random weights that are large enough for differences to be seen, voiced at some frames and not at others."""
    torch.manual_seed(seed)
    vocoder = Vocoder(config).eval()
    with torch.no_grad():
        for name, parameter in vocoder.named_parameters():
            if "alpha" in name:
                parameter.copy_(torch.rand_like(parameter) * 3 - 1)
            elif "original0" in name and "f0" not in name:
                parameter.mul_(8 if "blocks" in name else 2)
            elif "bias" in name and "f0" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        vocoder.f0_predictor.output.bias.fill_(30.0)
    return vocoder


MODELS = [(vocoder, for_inference(vocoder)) for vocoder in (loud(tiny_config(**changes)) for changes in GEOMETRIES)]


def by_the_book(vocoder: Vocoder, mel: Tensor, seed: int, phases: Tensor) -> Tensor:
    """The wave [N] that the trained vocoder makes of mel [M, F] with these random numbers."""
    with torch.no_grad():
        f0 = vocoder.predict_f0(mel[None])
        noise = tape(vocoder, seed).take(mel.shape[1] * vocoder.config.hop)[None]
        return vocoder.decode(mel[None], vocoder.source(f0, phases=phases[None], noise=noise))[0]


def tape(vocoder: Vocoder, seed: int) -> NoiseTape:
    return NoiseTape(vocoder.config.harmonics + 1, seed)


def random_phases(rows: int) -> Tensor:
    return torch.rand(rows, 9, generator=torch.Generator().manual_seed(5)) * 6 - 3


def agree(made: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


def test_nano_agrees_with_the_reference(golden: Path) -> None:
    expected = load_file(golden / "nano" / "expected.safetensors")
    vocoder = Vocoder(NANO).eval()
    vocoder.load_state_dict(from_released(torch.load(golden / "nano" / "hift.pt", weights_only=True)))
    fast = for_inference(vocoder)
    agree(fast.predict_f0(expected["hift.in.mel"]), expected["hift.out.f0"])
    agree(fast.decode(expected["hift.in.mel"], expected["hift.in.source"]), expected["hift.out.wave"])


@pytest.mark.parametrize(("vocoder", "fast"), MODELS)
@pytest.mark.parametrize("frames", [1, 2, 7, 300])
def test_whole_decode_is_the_trained_vocoders(vocoder: Vocoder, fast: InferenceVocoder, frames: int) -> None:
    mel = random_mel(3, frames)
    with torch.no_grad():
        f0 = vocoder.predict_f0(mel)
        source = vocoder.source(f0, torch.Generator().manual_seed(0))
        expected = vocoder.decode(mel, source)
    assert expected.std() > 0.01
    torch.testing.assert_close(fast.predict_f0(mel), f0, atol=1e-3, rtol=1e-5)
    agree(fast.decode(mel, source), expected)
    assert fast(mel, torch.Generator().manual_seed(0)).shape == expected.shape


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(MODELS), st.lists(st.integers(0, 30), min_size=1, max_size=6), st.booleans())
def test_stream_is_the_whole_for_every_cut(
    pair: tuple[Vocoder, InferenceVocoder], cuts: list[int], empty_end: bool
) -> None:
    vocoder, fast = pair
    pieces = [*cuts, 0] if empty_end else cuts
    mel, phases = random_mel(1, sum(pieces))[0], random_phases(1)[0]
    stream = VocoderStream(fast, tape(vocoder, 3), phases)
    waves, start = [], 0
    for index, count in enumerate(pieces):
        final = index == len(pieces) - 1
        waves.append(stream.push(mel[:, start : start + count], final=final))
        start += count
        made = sum(len(wave) for wave in waves)
        assert made == (start * vocoder.config.hop if final else samples_known(vocoder.config, start))
    if start:
        agree(torch.cat(waves), by_the_book(vocoder, mel, 3, phases))


@pytest.mark.parametrize(("vocoder", "fast"), MODELS)
def test_look_ahead_is_what_is_needed_and_no_more(vocoder: Vocoder, fast: InferenceVocoder) -> None:
    config = vocoder.config
    ahead = look_ahead(config)
    assert samples_known(config, 60 + ahead) >= 60 * config.hop > samples_known(config, 60 + ahead - 1)
    mel, phases = random_mel(1, 60 + ahead)[0], random_phases(1)[0]
    stream = VocoderStream(fast, tape(vocoder, 0), phases)
    known = stream.push(mel)
    # Whatever follows, the samples given stay.
    other = torch.cat((mel, 3 * random_mel(1, 20)[0]), dim=1)
    agree(known, by_the_book(vocoder, other, 0, phases)[: len(known)])


def test_look_ahead_of_the_real_sizes() -> None:
    assert look_ahead(family_size("300m").parts(10)["vocoder"]) == 19  # type: ignore[arg-type]


def test_a_stream_keeps_a_bounded_past() -> None:
    vocoder, fast = MODELS[0]
    stream = VocoderStream(fast, tape(vocoder, 0), random_phases(1)[0])
    sizes = []
    for _ in range(12):
        stream.push(random_mel(1, 10)[0])
        sizes.append(held(stream))
    assert max(sizes[4:]) == min(sizes[4:])


def held(thing: object, seen: set[int] | None = None) -> int:
    """Numbers in the tensors that a run holds, by their storage; noise and weights belong to others."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, torch.nn.Module | NoiseTape):
        return 0
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        return 0 if thing.layout is not torch.strided else thing.untyped_storage().nbytes()
    if isinstance(thing, list | tuple | deque):
        return sum(held(item, seen) for item in thing)
    return sum(held(item, seen) for item in vars(thing).values()) if hasattr(thing, "__dict__") else 0


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(MODELS), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.booleans())
def test_rows_of_a_batch_are_what_they_are_alone(
    pair: tuple[Vocoder, InferenceVocoder], frames: list[int], padded: bool
) -> None:
    vocoder, fast = pair
    mels = [random_mel(1, count)[0] + row for row, count in enumerate(frames)]
    phases = random_phases(len(mels))
    together = stream_module._together if padded else vocode
    with torch.no_grad():
        waves = together(fast, mels, [tape(vocoder, row) for row in range(len(mels))], phases)
    for row, (mel, wave) in enumerate(zip(mels, waves, strict=True)):
        agree(wave, by_the_book(vocoder, mel, row, phases[row]))


def test_without_packed_weights_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "packing_works", lambda weight: False)
    vocoder, packed = MODELS[1]
    mel, phases = random_mel(1, 40)[0], random_phases(1)[0]
    waves = [
        VocoderStream(fast, tape(vocoder, 0), phases).push(mel, final=True) for fast in (for_inference(vocoder), packed)
    ]
    agree(*waves)


def test_bfloat16_is_near() -> None:
    vocoder, _ = MODELS[0]
    mel, phases = random_mel(1, 60)[0], random_phases(1)[0]
    made = VocoderStream(for_inference(vocoder, torch.bfloat16), tape(vocoder, 0), phases).push(mel, final=True)
    expected = by_the_book(vocoder, mel, 0, phases)
    assert made.dtype == torch.float32
    assert 10 * torch.log10(expected.square().mean() / (made - expected).square().mean()) > 20


def test_the_trained_vocoder_is_left_as_it_was() -> None:
    vocoder = loud(tiny_config())
    before = {name: tensor.clone() for name, tensor in vocoder.state_dict().items()}
    with torch.inference_mode():
        fast = for_inference(vocoder)
        fast(random_mel(1, 5), torch.Generator().manual_seed(0))
    assert all(torch.equal(before[name], tensor) for name, tensor in vocoder.state_dict().items())
    vocoder(random_mel(1, 5), torch.Generator().manual_seed(0)).mean().backward()
    assert not [name for name, parameter in fast.named_parameters() if parameter.requires_grad]


def test_an_alpha_of_nothing_is_no_activation() -> None:
    vocoder, mel, source = loud(tiny_config()), random_mel(1, 6), torch.randn(1, 1, 6 * 320) * 0.1
    with torch.no_grad():
        for name, parameter in vocoder.named_parameters():
            if "alpha" in name:
                parameter[::2] = 0
        agree(for_inference(vocoder).decode(mel, source), vocoder.decode(mel, source))


def test_what_does_not_fit_is_refused() -> None:
    vocoder, fast = MODELS[0]
    phases = random_phases(1)
    with pytest.raises(ValueError, match=r"float32 or torch.bfloat16, not in torch.float16"):
        for_inference(vocoder, torch.float16)
    with pytest.raises(RuntimeError, match=r"cannot be moved or converted: move the trained one"):
        fast.to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"961 samples does not fit 3 mel frames"):
        fast.decode(random_mel(1, 3), torch.zeros(1, 1, 961))
    with pytest.raises(ValueError, match=r"NoiseTape of that width \(not 8\)"):
        VocoderStream(fast, NoiseTape(8, 0), phases[0])
    with pytest.raises(ValueError, match=r"phases \[9\] \(not \[1, 9\]\)"):
        VocoderStream(fast, tape(vocoder, 0), phases)
    with pytest.raises(ValueError, match=r"takes log-mel \[20, frames\], got shape \[1, 20, 3\]"):
        VocoderStream(fast, tape(vocoder, 0), phases[0]).push(random_mel(1, 3))
    with pytest.raises(ValueError, match=r"1 mels, 2 tapes and 1 phases"):
        vocode(fast, [random_mel(1, 3)[0]], [tape(vocoder, 0)] * 2, phases)
    with pytest.raises(ValueError, match=r"mel without frames has no wave"):
        vocode(fast, [random_mel(1, 0)[0]], [tape(vocoder, 0)], phases)
    ended = VocoderStream(fast, tape(vocoder, 0), phases[0])
    ended.push(random_mel(1, 3)[0], final=True)
    with pytest.raises(ValueError, match=r"has ended with push\(..., final=True\): make a new VocoderStream"):
        ended.push(random_mel(1, 3)[0])
