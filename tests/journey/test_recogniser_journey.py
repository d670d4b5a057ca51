"""Real transformers models with random weights, made here, write the texts of a corpus: nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cosytune.data.prepare import prepare_corpus
from cosytune.data.transcripts import open_recogniser
from cosytune.errors import InputError
from tests.unit.long_audio import murmur
from tests.unit.test_data_pipeline import talk

transformers = pytest.importorskip("transformers")

SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
WORDS = ["one", "two", "three", "four", "five", "six", "seven"]


def make_whisper(folder: Path) -> Path:
    """A Whisper of random weights that knows seven words."""
    from tokenizers import Tokenizer, decoders, models

    folder.mkdir()
    tokenizer = Tokenizer(models.BPE(vocab={f"Ġ{word}": number for number, word in enumerate(WORDS)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    times = [f"<|{hundredth / 50:.2f}|>" for hundredth in range(1501)]
    tokenizer.add_special_tokens([*SPECIAL, *times])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "WhisperTokenizer"}))
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    end, begin, english, german, task, silent = (tokenizer.token_to_id(name) for name in SPECIAL)
    torch.manual_seed(0)
    sizes = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in _SIZES.items()}
    tokens = {"eos_token_id": end, "bos_token_id": end, "pad_token_id": end, "decoder_start_token_id": begin}
    config = transformers.WhisperConfig(vocab_size=tokenizer.get_vocab_size(), d_model=16, **sizes, **tokens)
    model = transformers.WhisperForConditionalGeneration(config)
    with torch.no_grad():
        # So that it says words, and not only when.
        model.get_output_embeddings().weight[: len(WORDS)] *= 100
    model.generation_config = transformers.GenerationConfig(
        **tokens,
        max_length=8,
        is_multilingual=True,
        lang_to_id={"<|en|>": english, "<|de|>": german},
        task_to_id={"transcribe": task},
        no_timestamps_token_id=silent,
        suppress_tokens=[end, begin, english, german, task, silent],
    )
    model.save_pretrained(folder)
    return folder


_SIZES = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}


def make_ctc(folder: Path) -> Path:
    """A wav2vec 2.0 of random weights with the letters of English."""
    folder.mkdir()
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.json").write_text(json.dumps({letter: number for number, letter in enumerate(letters)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    transformers.Wav2Vec2Processor(transformers.Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
    )
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("make", [make_whisper, make_ctc])
def test_clips_without_text_are_transcribed(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    model = make(tmp_path / "model")
    talk(tmp_path / "in" / "talk.wav", [8.0, 9.0, 8.0, 9.0])
    corpus = prepare_corpus(
        tmp_path / "in", tmp_path / "corpus", transcribe=str(model), language="en", detector="energy"
    )
    clips = corpus.utterances()
    assert len(clips) > 1
    assert {clip.transcribed_by for clip in clips} == {"transformers:model"}
    assert all(clip.text for clip in clips)


def test_whisper_hears_long_recordings_and_refuses_languages(tmp_path: Path) -> None:
    model = make_whisper(tmp_path / "model")
    wave = murmur(40 * 16_000, 16_000).astype(np.float32)
    texts = [open_recogniser(str(model), "de").transcribe(wave[:length]) for length in (16_000, len(wave), len(wave))]
    assert texts[1] == texts[2] and all(texts)
    with pytest.raises(InputError, match="does not know the language 'fr', only de, en: give another --language, or a"):
        open_recogniser(str(model), "fr").transcribe(wave[:16_000])
