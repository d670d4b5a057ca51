"""Streams: the same tokens as the whole, no clicks where chunks meet, and a state that ends when it is told to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cosytune.errors import InputError, ModelError
from cosytune.models.flow.solver import SolverConfig
from cosytune.models.lm.sampling import GREEDY
from cosytune.models.vocoder.stream import VocoderStream
from cosytune.synthesis import Request, Synthesiser, rendering
from cosytune.synthesis import streaming as module
from cosytune.synthesis.guards import GuardConfig
from cosytune.synthesis.streaming import StreamConfig
from tests.unit.model_examples import tiny_model, tone

RATE = 16_000
FAST = SolverConfig(steps=2)
# Random weights end when they like: without second tries stream and whole say the same.
ONCE = GuardConfig(retries=0)
LONG = "how are you this morning hello there how are you"
SHORT_CHUNKS = StreamConfig(first=0.4, following=0.8, look_ahead=0.2, context=1.0)


@pytest.fixture(scope="module")
def synthesiser() -> Synthesiser:
    return Synthesiser(tiny_model("ada", "bob"), solver=FAST, guards=ONCE)


def test_a_stream_says_what_the_whole_says(synthesiser: Synthesiser) -> None:
    request = Request(LONG + ". " + LONG * 2 + ".", "ada", seed=3)
    whole = synthesiser.speak(request)
    with synthesiser.stream(request, SHORT_CHUNKS) as stream:
        chunks = list(stream)
    assert len(chunks) > 4
    assert [piece.tokens for piece in stream.pieces] == [piece.tokens for piece in whole.pieces]
    assert all(chunk.dtype == np.float32 and np.abs(chunk).max() <= 1 for chunk in chunks)
    said = sum(len(piece.tokens) for piece in stream.pieces) * 640
    assert said <= sum(map(len, chunks)) <= said + len(whole.pieces) * RATE, "all of it, and pauses"


def test_one_chunk_is_the_whole(synthesiser: Synthesiser) -> None:
    request = Request("hello", "ada")
    (chunk,) = synthesiser.stream(request, StreamConfig(first=60.0))
    np.testing.assert_allclose(chunk, synthesiser.speak(request).wave, atol=1e-4)


def test_the_only_difference_is_what_the_flow_sees(synthesiser: Synthesiser, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a flow that looks at nothing but its own frame's noise, stream and whole are the same wave."""

    def blind(flow: object, tokens: torch.Tensor, *_: object, noise: torch.Tensor, **more: object) -> torch.Tensor:
        return noise[:, :, -2 * tokens.shape[1] :] - 3.0

    monkeypatch.setattr(module, "synthesise", blind)
    monkeypatch.setattr(rendering, "synthesise", blind)
    request = Request(LONG, "ada", seed=1)
    for config in (SHORT_CHUNKS, StreamConfig(first=0.1, following=0.3, look_ahead=0.0, context=0.0)):
        streamed = np.concatenate(list(synthesiser.stream(request, config)))
        np.testing.assert_allclose(streamed, synthesiser.speak(request).wave, atol=1e-4)


def test_the_distance_to_the_whole_is_bounded(synthesiser: Synthesiser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured 0.16 of a log-mel that varies by 1.36 (random weights); 0.30 without context and look-ahead."""
    mels: list[torch.Tensor] = []
    push = module.VocoderStream.push

    def keep(self: VocoderStream, mel: torch.Tensor, final: bool = False) -> torch.Tensor:
        mels.append(mel)
        return push(self, mel, final)

    monkeypatch.setattr(module.VocoderStream, "push", keep)
    ten_steps = Synthesiser(synthesiser.model, guards=ONCE)

    def mel_of(config: StreamConfig) -> torch.Tensor:
        mels.clear()
        list(ten_steps.stream(Request(LONG, "ada", seed=1), config))
        return torch.cat(mels, dim=1)

    whole = mel_of(StreamConfig(first=600.0))
    default, bare = mel_of(StreamConfig()), mel_of(StreamConfig(look_ahead=0.0, context=0.0))
    distance = (default - whole).abs().mean()
    assert 0 < distance < 0.22
    assert distance < 0.8 * (bare - whole).abs().mean()


def test_prompts_and_recordings_are_streamed(synthesiser: Synthesiser) -> None:
    wave = tone(0.8, RATE)
    cloned = Request(LONG, prompt_wave=wave, prompt_rate=RATE, prompt_text="hello")
    assert len(list(synthesiser.stream(cloned, SHORT_CHUNKS))) > 1
    converted = Request(voice="bob", source_wave=tone(3.0, RATE), source_rate=RATE)
    chunks = list(synthesiser.stream(converted, SHORT_CHUNKS))
    assert len(chunks) > 2
    assert sum(map(len, chunks)) == 3 * RATE


def test_nothing_is_computed_before_it_is_asked_for(synthesiser: Synthesiser) -> None:
    stream = synthesiser.stream(Request(LONG, "ada"), SHORT_CHUNKS)
    assert stream.first_chunk_seconds is None
    assert stream.seconds_spent["lm"] == 0
    next(stream)
    assert stream.first_chunk_seconds is not None
    assert stream.seconds_spent["lm"] > 0
    assert stream.pieces == []
    assert not torch.is_inference_mode_enabled()


def test_a_closed_stream_gives_nothing_more(synthesiser: Synthesiser) -> None:
    with synthesiser.stream(Request(LONG, "ada"), SHORT_CHUNKS) as stream:
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    stream.close()


def test_streams_do_not_disturb_each_other(synthesiser: Synthesiser) -> None:
    requests = [Request(LONG, "ada", seed=1), Request(LONG, "bob", seed=2)]
    alone = [np.concatenate(list(synthesiser.stream(request, SHORT_CHUNKS))) for request in requests]
    streams = [synthesiser.stream(request, SHORT_CHUNKS) for request in requests]
    heard: list[list[np.ndarray]] = [[], []]
    running = [True, True]
    while any(running):
        for index, stream in enumerate(streams):
            chunk = next(stream, None)
            running[index] = chunk is not None
            heard[index] += [] if chunk is None else [chunk]
    for index, expected in enumerate(alone):
        assert np.array_equal(np.concatenate(heard[index]), expected)


def test_a_loop_ends_a_piece(synthesiser: Synthesiser) -> None:
    model = tiny_model("ada")
    with torch.no_grad():
        model.part("lm").head.bias[5] += 1000.0
    looping = Synthesiser(model, solver=FAST, guards=ONCE, sampling=GREEDY)
    with looping.stream(Request("hello", "ada"), SHORT_CHUNKS) as stream:
        list(stream)
    assert stream.pieces[0].problem is not None and "repeat" in stream.pieces[0].problem
    with looping.stream(Request("hello", "ada"), StreamConfig(first=60.0)) as late:
        samples = sum(map(len, late))
    assert samples == 640 * len(late.pieces[0].tokens) < 640 * 25, "the loop itself is not given out"


def test_damaged_weights_are_told() -> None:
    model = tiny_model("ada")
    for parameter in model.part("vocoder").parameters():
        parameter.data.fill_(float("nan"))
    with (
        pytest.raises(ModelError, match="samples that are not numbers came out"),
        Synthesiser(model, solver=FAST).stream(Request("hello", "ada")) as stream,
    ):
        list(stream)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request("hello", "ada", speed=1.5), "speed 1.5 needs the whole speech"),
        (Request("", "ada"), "nothing to"),
        (Request("hello", "eve"), "no voice 'eve'"),
    ],
)
def test_requests_that_cannot_be_streamed(synthesiser: Synthesiser, request_: Request, words: str) -> None:
    with pytest.raises(InputError, match=words):
        synthesiser.stream(request_)


@pytest.mark.parametrize("wrong", [{"first": 0.0}, {"following": -1.0}, {"look_ahead": -0.1}, {"context": -1.0}])
def test_chunks_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="a stream needs chunks of more than 0 s"):
        StreamConfig(**wrong)
