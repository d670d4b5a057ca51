"""All clock arithmetic: samples, mel frames, speech tokens and seconds.

Shape letters used everywhere: B batch, S text tokens, T speech tokens, F mel frames, M mel bins, N samples, D width,
H heads, E speaker-vector width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "FEATURE_FRAME_RATE",
    "FEATURE_SAMPLE_RATE",
    "Clock",
    "exact_div",
    "feature_frames",
    "samples_of_seconds",
    "seconds_of_samples",
]

FEATURE_SAMPLE_RATE = 16_000
"""Hz. What the speech tokenizer and the speaker encoder listen to, whatever the model's own rate is."""

FEATURE_FRAME_RATE = 100
"""Hz. Frames of the Whisper log-mel and of the Kaldi filter bank (a shift of 160 samples)."""


def exact_div(numerator: int, denominator: int) -> int:
    """Divide two integers and refuse a remainder.

    Raises:
        ValueError: the denominator is not positive or does not divide the numerator.
    """
    if denominator <= 0:
        raise ValueError(f"cannot divide {numerator} by {denominator}: the divisor must be positive")
    quotient, remainder = divmod(numerator, denominator)
    if remainder:
        raise ValueError(f"{numerator} is not a multiple of {denominator} (remainder {remainder})")
    return quotient


def seconds_of_samples(samples: int, sample_rate: int) -> float:
    """Duration in seconds of `samples` at `sample_rate` Hz.

    Raises:
        ValueError: the rate is not positive.
    """
    if sample_rate <= 0:
        raise ValueError(f"sample rate must be positive, not {sample_rate} Hz")
    return samples / sample_rate


def samples_of_seconds(seconds: float, sample_rate: int) -> int:
    """Number of samples nearest to `seconds` at `sample_rate` Hz.

    Raises:
        ValueError: a negative duration.
    """
    if seconds < 0:
        raise ValueError(f"a duration cannot be negative, got {seconds} s")
    return round(seconds * sample_rate)


def feature_frames(samples: int) -> int:
    """Whisper log-mel frames (100 Hz) of a 16 kHz wave of `samples` samples; the last part frame is dropped."""
    return samples // exact_div(FEATURE_SAMPLE_RATE, FEATURE_FRAME_RATE)


@dataclass(frozen=True)
class Clock:
    """The time geometry of one model.

    Attributes:
        sample_rate: Hz of the waves that the model makes.
        hop: samples per mel frame.
        token_rate: speech tokens per second; must divide 100 Hz, the rate of the tokenizer's features.

    Raises:
        ValueError: a number is not positive, or the token rate does not divide 100 Hz.
    """

    sample_rate: int
    hop: int
    token_rate: int

    def __post_init__(self) -> None:
        for name in ("sample_rate", "hop", "token_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        exact_div(FEATURE_FRAME_RATE, self.token_rate)

    @property
    def frame_rate(self) -> float:
        """Mel frames per second."""
        return self.sample_rate / self.hop

    @property
    def frames_per_token(self) -> float:
        """Mel frames per speech token: 1.7227 for the 300M family, whole numbers for others."""
        return self.frame_rate / self.token_rate

    def frames_of_tokens(self, tokens: int) -> int:
        """Mel frames spoken for `tokens` speech tokens.

        A ratio that is not whole is cut to whole frames in the order the reference computes it; a whole one is taken as
        it is, because in that order 201 tokens at 25 Hz would lose a frame to rounding.
        """
        whole, remainder = divmod(self.sample_rate, self.hop * self.token_rate)
        if not remainder:
            return tokens * whole
        return int(tokens / self.token_rate * self.sample_rate / self.hop)

    def tokens_of_feature_frames(self, frames: int) -> int:
        """Speech tokens of `frames` feature frames (100 Hz): the tokenizer's strides round up."""
        stride = exact_div(FEATURE_FRAME_RATE, self.token_rate)
        return -(-frames // stride)

    def tokens_of_seconds(self, seconds: float) -> int:
        """Speech tokens of a 16 kHz recording of `seconds` seconds."""
        return self.tokens_of_feature_frames(feature_frames(samples_of_seconds(seconds, FEATURE_SAMPLE_RATE)))

    def seconds_of_tokens(self, tokens: int) -> float:
        """Nominal duration of `tokens` speech tokens in seconds."""
        return tokens / self.token_rate
