"""Speech while it is being made: chunk by chunk, the state of each stream in an object of its own.

The LM decodes token by token and the vocoder runs along time exactly (`VocoderStream`), so both give what they give for
the whole. The flow sees the future: it is run on windows of

    [prompt of the voice] [context: what was said last] [new tokens] [look-ahead]

of which only the new tokens' frames are given out. The noise of every frame is the one that the whole would start from,
so windows agree where they overlap, and the look-ahead's frames are blended into the next window's first ones. What is
left is the flow's own difference between seeing a window and seeing everything: `docs/speaking.md` has it measured.
(Handing the context's mel over as a known beginning, like a prompt, was measured too: three times as far from the
whole, because the whole has no such beginning.)
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from cosytune.audio.silence import speech_bounds
from cosytune.errors import InputError, ModelError
from cosytune.models.flow.solver import synthesise
from cosytune.models.lm.generate import Decoder, Generated
from cosytune.models.vocoder.stream import VocoderStream
from cosytune.synthesis.conditions import Condition
from cosytune.synthesis.engine import Plan, judge_tokens
from cosytune.synthesis.guards import GuardConfig
from cosytune.synthesis.rendering import Renderer
from cosytune.synthesis.requests import Piece
from cosytune.synthesis.spending import Spending
from cosytune.units import Clock, samples_of_seconds

__all__ = ["SpeechStream", "StreamConfig"]


@dataclass(frozen=True)
class StreamConfig:
    """How speech is cut into chunks; all numbers are seconds.

    Attributes:
        first: new speech in the first chunk: less of it comes sooner and costs more.
        following: new speech in every other chunk.
        look_ahead: speech that the flow must see beyond what is given out.
        context: speech before the chunk that the flow sees again.
    """

    first: float = 0.8
    following: float = 2.0
    look_ahead: float = 0.4
    context: float = 3.0

    def __post_init__(self) -> None:
        """Refuse durations that cannot be.

        Raises:
            InputError: a chunk without speech, or a negative duration.
        """
        if min(self.first, self.following) <= 0 or min(self.look_ahead, self.context) < 0:
            raise InputError(f"a stream needs chunks of more than 0 s and no negative durations, not {self}")


class SpeechStream:
    """One request on its way out: an iterator of waves float32 [n] that put together are the speech.

    Recordings are analysed and the text is cut when a stream is made; nothing is decoded before a chunk is asked for,
    and nothing after `close` (or the end of a `with` block). Several streams of one synthesiser may be read in turns.
    What was given out cannot be taken back: guards end a piece that goes wrong, but there are no further tries.

    Attributes:
        sample_rate: Hz.
        pieces: what was said so far, complete pieces only.
        first_chunk_seconds: wall time from `Synthesiser.stream` until the first chunk was there; None before.
    """

    def __init__(
        self,
        plan: Plan,
        decoder: Decoder,
        renderer: Renderer,
        guards: GuardConfig,
        config: StreamConfig,
        began: float,
    ) -> None:
        """Begin a stream of a plan that was asked for at `began` (`time.perf_counter`).

        Raises:
            InputError: a speed other than 1, for which a mel must be whole.
        """
        if plan.request.speed != 1.0:
            raise InputError(
                f"{plan.request.name}: speed {plan.request.speed:g} needs the whole speech; stream at speed 1, or "
                "speak without streaming"
            )
        self.sample_rate = renderer.sample_rate
        self.pieces: list[Piece] = []
        self.first_chunk_seconds: float | None = None
        self._plan, self._decoder, self._renderer = plan, decoder, renderer
        self._guards, self._config = guards, config
        self._began = began
        self._given = 0
        self._chunks = self._run()

    def __enter__(self) -> SpeechStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> SpeechStream:
        return self

    def __next__(self) -> np.ndarray:
        """The next chunk.

        Raises:
            ModelError: the networks computed numbers that are none.
        """
        # Not around the generator: the mode would leak into the caller's code between two chunks.
        with torch.inference_mode():
            wave = next(self._chunks)
        if not np.isfinite(wave).all():
            self.close()
            raise ModelError(
                f"{self._plan.request.name}: samples that are not numbers came out: the weights are damaged (cosytune "
                "inspect MODEL --verify finds out which), load another start"
            )
        self._given += len(wave)
        if self.first_chunk_seconds is None:
            self.first_chunk_seconds = time.perf_counter() - self._began
        return wave

    def close(self) -> None:
        """End the stream and let its state go; closing twice does no harm."""
        self._chunks.close()

    @property
    def seconds_spent(self) -> dict[str, float]:
        """Wall time by part so far."""
        return dict(self._plan.spending.seconds)

    def _run(self) -> Generator[np.ndarray, None, None]:
        last = len(self._plan.pieces) - 1
        for number, piece in enumerate(self._plan.pieces):
            begin = self._given
            spoken = _PieceStream(self._plan, number, self._renderer, self._config)
            tail = np.zeros(0, dtype=np.float32)
            tokens: list[int] = []
            heard: Generated | None = None
            for tokens, heard in self._tokens(number):
                if heard is not None:
                    # A loop that was heard is not given out, as far as it is not out already.
                    kept = judge_tokens(heard, self._guards, self._renderer.clock).tokens
                    tokens = tokens[: max(len(kept), spoken.said)]
                for wave in spoken.push(tokens, final=heard is not None):
                    tail = wave
                    yield wave
            attempt = judge_tokens(heard or Generated(tokens, "end"), self._guards, self._renderer.clock)
            if number != last:
                yield _pause_after(tail, piece.pause, self.sample_rate)
            start, seconds = begin / self.sample_rate, (self._given - begin) / self.sample_rate
            self.pieces.append(Piece(piece.text, list(tokens), attempt.ended, attempt.problem, 0, start, seconds))

    def _tokens(self, number: int) -> Iterator[tuple[list[int], Generated | None]]:
        """Tokens so far of a piece after each new one, and what ended it once it has ended."""
        plan = self._plan
        if plan.source is not None:
            tokens = plan.source.tolist()
            yield tokens, Generated(tokens, "end")
            return
        job = plan.job(number, 0, self._guards, self._decoder, self._renderer.clock)
        decoding = self._decoder.begin(1)
        with Spending.shared([plan.spending], "lm"):
            decoding.enter([job])
        while True:
            with Spending.shared([plan.spending], "lm"):
                done = decoding.advance()
            if done:
                yield done[0][1].tokens, done[0][1]
                return
            yield decoding.spoken(job), None


class _PieceStream:
    """Tokens of one piece to waves: the flow in windows, the vocoder along time."""

    def __init__(self, plan: Plan, number: int, renderer: Renderer, config: StreamConfig) -> None:
        seed = plan.seed(number, 0)
        self._renderer, self._clock = renderer, renderer.clock
        self._condition: Condition = plan.condition
        self._spending = plan.spending
        rate = self._clock.token_rate
        self._first, self._following = (max(1, round(length * rate)) for length in (config.first, config.following))
        self._ahead, self._context = round(config.look_ahead * rate), round(config.context * rate)
        self._tape = renderer.noise_tape(seed)
        self._prompt_noise = self._tape.take(self._condition.flow_mel.shape[1]).T
        self._vocoder = VocoderStream(renderer.vocoder, renderer.excitation_tape(seed), renderer.phases(seed))
        self._said = 0
        self._noise = torch.zeros(renderer.flow.config.mel_bins, 0)
        self._preview = torch.zeros(renderer.flow.config.mel_bins, 0)

    @property
    def said(self) -> int:
        """Tokens that were made audible."""
        return self._said

    def push(self, tokens: list[int], final: bool) -> Iterator[np.ndarray]:
        """Waves that can be made of the tokens so far; all that is left if `final`."""
        while True:
            size = self._following if self._said else self._first
            enough = len(tokens) >= self._said + size + self._ahead
            if not enough and not final:
                return
            # A rest that is hardly longer than the look-ahead is not worth a chunk of its own.
            last = final and len(tokens) <= self._said + size + self._ahead
            end = len(tokens) if last else self._said + size
            if end > self._said or self._said:
                wave = self._chunk(tokens, end, last)
                if len(wave):
                    yield wave
            if last:
                return

    def _chunk(self, tokens: list[int], end: int, last: bool) -> np.ndarray:
        begin, seen = self._said, min(len(tokens), end + self._ahead)
        new = self._preview[:, :0]
        if seen > begin:
            with Spending.shared([self._spending], "flow"):
                window = self._window(tokens, begin, seen)
            count = self._frames(end) - self._frames(begin)
            new, self._preview = _blended(self._preview, window)[:, :count], window[:, count:]
        self._said = end
        with Spending.shared([self._spending], "vocoder"):
            return self._vocoder.push(new, final=last).cpu().numpy()

    def _window(self, tokens: list[int], begin: int, seen: int) -> Tensor:
        """Mel [M, F] of the tokens `begin` to `seen`, seen behind the voice's prompt and what was said last."""
        condition, device = self._condition, self._renderer.device
        past = max(0, begin - self._context)
        frames = [self._frames(place) for place in (past, begin, seen)]
        while self._noise.shape[1] < frames[2]:
            self._noise = torch.cat((self._noise, self._tape.take(frames[2] - self._noise.shape[1]).T), dim=1)
        mel = synthesise(
            self._renderer.flow,
            torch.tensor([tokens[past:seen]]).to(device),
            condition.flow_tokens[None].to(device),
            condition.flow_mel[None].to(device),
            condition.flow_vector[None].to(device),
            frames[2] - frames[0],
            frames_per_token=self._clock.frames_per_token,
            noise=torch.cat((self._prompt_noise, self._noise[:, frames[0] : frames[2]]), dim=1)[None].to(device),
            solver=self._renderer.solver,
        )
        return mel[0, :, frames[1] - frames[0] :].cpu()

    def _frames(self, tokens: int) -> int:
        clock: Clock = self._clock
        return clock.frames_of_tokens(tokens)


def _blended(preview: Tensor, window: Tensor) -> Tensor:
    """The window [M, F] whose first frames come out of the preview [M, f] of the window before, and change over to it.

    The weights are those of a line and add up to 1.
    """
    count = min(preview.shape[1], window.shape[1])
    if not count:
        return window
    rising = (torch.arange(count) + 1.0) / (count + 1.0)
    mixed = preview[:, :count] * (1.0 - rising) + window[:, :count] * rising
    return torch.cat((mixed, window[:, count:]), dim=1)


def _pause_after(tail: np.ndarray, seconds: float, sample_rate: int) -> np.ndarray:
    """The silence that is missing to a pause of so many seconds after a piece that ended with `tail`."""
    _, last = speech_bounds(tail, sample_rate) if len(tail) else (0, 0)
    return np.zeros(max(0, samples_of_seconds(seconds, sample_rate) - (len(tail) - last)), dtype=np.float32)
