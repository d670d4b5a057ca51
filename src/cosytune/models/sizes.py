"""Named sizes of the whole family: nothing but numbers, so that two sizes can be compared side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cosytune.audio.mel import MEL_22K, MelConfig
from cosytune.errors import InputError
from cosytune.models.flow.config import EstimatorConfig, FlowConfig
from cosytune.models.layers.config import PartConfig
from cosytune.models.layers.encoder import EncoderConfig
from cosytune.models.lm.config import LMConfig
from cosytune.models.speaker_encoder.config import SpeakerEncoderConfig
from cosytune.models.speech_tokenizer.config import FSQConfig, SpeechTokenizerConfig, VQConfig
from cosytune.models.vocoder.config import VocoderConfig
from cosytune.units import Clock

__all__ = ["SIZES", "FamilySize", "family_size"]


@dataclass(frozen=True)
class FamilySize:
    """Everything that decides the shapes of a model.

    Attributes:
        clock: rates.
        mel: the spectrogram between flow and vocoder.
        text_vocabulary: text tokens of the Whisper vocabulary; 0 lets pre-training train a small tokenizer.
        small_vocabulary: pieces of that small tokenizer, at most, beside the letters of scripts without case, such as
            Chinese; 0 where there is none.
        parts: configuration of each network, given the text vocabulary.
    """

    clock: Clock
    mel: MelConfig
    text_vocabulary: int
    small_vocabulary: int
    parts: Callable[[int], dict[str, PartConfig]]


_NANO_VOCABULARY = 64


def _nano_parts(text_vocabulary: int) -> dict[str, PartConfig]:
    speaker_width, codebook = 128, FSQConfig(levels=(3,) * 7)
    return {
        "speech_tokenizer": SpeechTokenizerConfig(
            symbols=text_vocabulary,
            bins=80,
            strides=(2, 2),
            width=160,
            heads=4,
            feed_forward=480,
            layers_before=3,
            layers_after=2,
            memory_kernel=15,
            quantiser=codebook,
        ),
        "speaker_encoder": SpeakerEncoderConfig(
            speaker_width=speaker_width,
            front_channels=8,
            front_blocks=(1, 1),
            tdnn_channels=64,
            growth=16,
            bottleneck=48,
            blocks=(2, 4, 2),
        ),
        "lm": LMConfig(
            text_vocabulary=text_vocabulary,
            speech_codebook=codebook.codebook_size,
            speaker_width=speaker_width,
            min_ratio=0.6,
            # Many more tokens than an alphabet needs: they are syllables, which last longer than letters.
            max_ratio=8.0 if text_vocabulary < 2 * _NANO_VOCABULARY else 20.0,
            text_encoder=EncoderConfig(
                input=128, width=192, heads=4, feed_forward=512, layers=2, chunk=1, dropout=0.05, position_dropout=0.0
            ),
            decoder=EncoderConfig(
                input=192, width=192, heads=4, feed_forward=640, layers=4, activation="relu", input_relu=True, chunk=1,
                dropout=0.05, position_dropout=0.0,
            ),
        ),
        "flow": FlowConfig(
            speech_codebook=codebook.codebook_size,
            token_width=128,
            mel_bins=80,
            speaker_width=speaker_width,
            encoder=EncoderConfig(
                input=128, width=160, heads=4, feed_forward=480, layers=2, dropout=0.05, position_dropout=0.0
            ),
            regulator_layers=2,
            estimator=EstimatorConfig(channels=(128, 160), blocks=1, mid_blocks=3, heads=2, head_width=64),
        ),
        "vocoder": VocoderConfig(
            sample_rate=16_000,
            hop=320,
            base_channels=128,
            upsample_rates=(5, 4),
            upsample_kernels=(11, 8),
            istft_n_fft=64,
            istft_hop=16,
            f0_width=96,
            resblock_kernels=(3, 7),
            resblock_dilations=((1, 3), (1, 3)),
            source_kernels=(7, 7),
            source_dilations=((1, 3), (1, 3)),
        ),
    }  # fmt: skip


def _cosyvoice_300m_parts(text_vocabulary: int) -> dict[str, PartConfig]:
    text = EncoderConfig(input=512, width=1024, heads=16, feed_forward=4096, layers=6, chunk=1)
    decoder = EncoderConfig(
        input=1024, width=1024, heads=16, feed_forward=4096, layers=14, activation="relu", input_relu=True, chunk=1
    )
    return {
        "speech_tokenizer": SpeechTokenizerConfig(
            symbols=text_vocabulary,
            bins=128,
            strides=(1, 2),
            width=1280,
            heads=20,
            feed_forward=5120,
            layers_before=6,
            layers_after=6,
            quantiser=VQConfig(codes=4096, code_width=1280),
        ),
        "speaker_encoder": SpeakerEncoderConfig(),
        "lm": LMConfig(
            text_vocabulary=text_vocabulary, speech_codebook=4096, speaker_width=192, text_encoder=text, decoder=decoder
        ),
        "flow": FlowConfig(
            speech_codebook=4096,
            token_width=512,
            mel_bins=80,
            speaker_width=192,
            encoder=EncoderConfig(input=512, width=512, heads=8, feed_forward=2048, layers=6, attention_dropout=0.1),
            estimator=EstimatorConfig(channels=(256, 256), blocks=4, mid_blocks=12, heads=8, head_width=64),
        ),
        "vocoder": VocoderConfig(
            sample_rate=22_050,
            hop=256,
            base_channels=512,
            upsample_rates=(8, 8),
            upsample_kernels=(16, 16),
            istft_n_fft=16,
            istft_hop=4,
            f0_width=512,
        ),
    }


SIZES: dict[str, FamilySize] = {
    # 25 tokens/s and exactly two mel frames per token: what learned fastest on two cores.
    "nano": FamilySize(
        Clock(16_000, 320, 25), MelConfig(16_000, 1024, 1024, 320, 80, 0.0, 8000.0), 0, _NANO_VOCABULARY, _nano_parts
    ),
    # The released 300M shapes, to pre-train from nothing with Whisper's text vocabulary.
    "300m": FamilySize(Clock(22_050, 256, 50), MEL_22K, 51_866, 0, _cosyvoice_300m_parts),
}


def family_size(name: str) -> FamilySize:
    """Look a size up by name.

    Raises:
        InputError: there is no such size.
    """
    if name not in SIZES:
        raise InputError(f"there is no size {name!r}; sizes are {', '.join(SIZES)}")
    return SIZES[name]
