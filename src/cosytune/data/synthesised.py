"""Corpora from the synthesiser espeak-ng: many voices, hundreds of times faster than speaking, for demo and tests."""

from __future__ import annotations

import ctypes
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, tee
from pathlib import Path

import numpy as np

from cosytune.audio.files import encode_wave
from cosytune.audio.resample import resample
from cosytune.data.manifest import Utterance, write_manifest
from cosytune.data.sentences import Sentence, stream
from cosytune.errors import DataError, InputError, MissingPackageError
from cosytune.files import hash_json, write_folder
from cosytune.units import samples_of_seconds, seconds_of_samples

__all__ = ["SynthVoice", "make_voices", "synthesise_corpus", "synthesise_texts"]

_VARIANTS: tuple[str, ...] = (
    *(
        "f1",
        "m1",
        "f2",
        "m2",
        "f3",
        "m3",
        "f4",
        "m4",
        "f5",
        "m5",
        "Annie",
        "m6",
        "Alicia",
        "m7",
        "aunty",
        "m8",
        "anika",
    ),
    *(
        "klatt2",
        "belinda",
        "klatt3",
        "linda",
        "klatt4",
        "shelby",
        "klatt",
        "steph",
        "adam",
        "grandma",
        "Alex",
        "Andrea",
    ),
    *(
        "Andy",
        "benjamin",
        "boris",
        "david",
        "edward2",
        "grandpa",
        "Lee",
        "marcelo",
        "Mario",
        "max",
        "Michael",
        "michel",
    ),
    *("quincy", "rob", "robert", "victor"),
)
"""Variants of espeak-ng that sound like people and say the same twice; women and men in turn at the beginning."""
_ACCENTS = {
    "en": ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en"),
    "zh": ("cmn",),
}
"""Accents of espeak-ng by language, the commonest first."""

# Numbers of espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_ESPEAK_RATE = 22_050
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class SynthVoice:
    """A voice of espeak-ng.

    Attributes:
        name: label of the speaker.
        voice: accent and variant, such as "en-us+f3".
        pitch: 0 to 99, 50 is the variant's own.
        range: of the pitch, 0 (monotone) to 99.
        rate: words per minute, 80 to 450.
        language: of the texts.
    """

    name: str
    voice: str
    pitch: int = 50
    range: int = 50
    rate: int = 170
    language: str = "en"


def make_voices(count: int, *, seed: int = 0, languages: Sequence[str] = ("en",)) -> list[SynthVoice]:
    """Draw voices that differ in variant, accent, pitch, range and rate; more voices begin with the same ones.

    Args:
        count: how many.
        seed: another one draws others.
        languages: of the voices, in turn, two voices each.

    Raises:
        InputError: the count is not positive, a language without sentences, or none.
    """
    if count < 1:
        raise InputError(f"{count} voices cannot speak; ask for 1 or more")
    unknown = [language for language in languages if language not in _ACCENTS]
    if unknown or not languages:
        given = repr(unknown[0]) if unknown else "none"
        raise InputError(f"voices are synthesised in the languages {', '.join(_ACCENTS)}; {given} was given")
    rng = random.Random(f"voices {seed}")
    made = []
    for index in range(count):
        variant = _VARIANTS[index % len(_VARIANTS)]
        language = languages[index // 2 % len(languages)]  # a woman and a man of each
        common, *others = _ACCENTS[language]
        # Half the voices have the commonest accent: one that is heard once cannot be learned.
        accent = common if rng.random() < 0.5 or not others else rng.choice(others)
        voice = SynthVoice(
            name=f"v{index:03d}-{variant.lower()}-{accent}",
            voice=f"{accent}+{variant}",
            pitch=rng.randint(30, 70),
            range=rng.randint(25, 75),
            rate=rng.randint(140, 200),
            language=language,
        )
        made.append(voice)
    return made


def synthesise_corpus(
    folder: Path,
    *,
    voices: int | Sequence[SynthVoice],
    sentences_per_voice: int | None = None,
    minutes_per_voice: float | None = None,
    seed: int = 0,
    sample_rate: int = _ESPEAK_RATE,
    format: str = "flac",
    pause: float = 0.1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Utterance]:
    """Write a corpus as a person would: a folder per speaker with a recording and a .txt each, and a manifest.jsonl.

    Everything follows from the arguments; a voice's clips do not depend on the other voices, and more sentences begin
    with the same ones. The manifest labels speaker, language and kind of sentence (`sentences.KINDS`).

    Args:
        folder: new or empty.
        voices: how many (see `make_voices`), or which.
        sentences_per_voice: how many; or
        minutes_per_voice: speak until this long.
        seed: of voices and sentences.
        sample_rate: Hz to write.
        format: "flac" or "wav".
        pause: seconds of silence before and after each sentence.
        progress: called after each voice with the voices done and all voices.

    Raises:
        MissingPackageError: espeakng-loader is not installed.
        InputError: not exactly one amount, an unknown format, or a voice that espeak-ng does not have.
        DataError: the folder holds files.
    """
    if (sentences_per_voice is None) == (minutes_per_voice is None):
        raise InputError("say how much each voice speaks: give either sentences_per_voice or minutes_per_voice")
    if format not in ("flac", "wav"):
        raise InputError(f"a synthesised corpus is written as flac or wav, not {format!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not an empty folder; give a new one for the synthesised corpus")
    chosen = make_voices(voices, seed=seed) if isinstance(voices, int) else list(voices)
    utterances: list[Utterance] = []
    with write_folder(folder) as partial:
        for done, voice in enumerate(chosen, start=1):
            (partial / voice.name).mkdir()
            voice_seed = int(hash_json([seed, voice.name])[:8], 16)
            budget = float("inf") if minutes_per_voice is None else 60 * minutes_per_voice
            for identity, sentence, wave in islice(_spoken(voice, voice_seed, pause), sentences_per_voice):
                wave = resample(wave, _ESPEAK_RATE, sample_rate)
                path = partial / f"{identity}.{format}"
                path.write_bytes(encode_wave(wave, sample_rate, format))
                path.with_suffix(".txt").write_text(sentence.text + "\n", encoding="utf-8")
                length = seconds_of_samples(len(wave), sample_rate)
                audio = path.relative_to(partial).as_posix()
                clip = Utterance(identity, audio, sentence.text, voice.name, voice.language, kind=sentence.kind)
                utterances.append(replace(clip, seconds=round(length, 6)))
                budget -= length
                if budget <= 0:
                    break
            if progress is not None:
                progress(done, len(chosen))
        write_manifest(partial / "manifest.jsonl", utterances)
    return [replace(item, audio=str(folder.absolute() / item.audio)) for item in utterances]


def synthesise_texts(voice: SynthVoice, texts: Iterable[str]) -> Iterator[np.ndarray]:
    """Speak texts one after the other; yields float32 waves [N] at 22,050 Hz. The same texts give the same waves.

    Raises:
        MissingPackageError: espeakng-loader is not installed.
        InputError: espeak-ng does not have the voice.
    """
    with _espeak() as (library, data):
        heard: list[np.ndarray] = []

        @_CALLBACK
        def receive(samples: ctypes._Pointer, count: int, events: int) -> int:
            if count > 0:
                heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        library.espeak_SetSynthCallback(receive)
        # The noise of breath and consonants would otherwise begin with the time of day.
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        _, plus, variant = voice.voice.partition("+")
        # The library takes an unknown variant without a word and speaks in its usual voice.
        known = not plus or (data / "voices" / "!v" / variant).is_file()
        if not known or library.espeak_SetVoiceByName(voice.voice.encode()) != 0:
            raise InputError(f"espeak-ng has no voice {voice.voice!r}; an example of one it has is 'en-us+f3'")
        for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, voice.range)):
            library.espeak_SetParameter(parameter, value, 0)
        for text in texts:
            heard.clear()
            encoded = text.encode("utf-8")
            library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, _UTF8, None, None)
            library.espeak_Synchronize()
            yield np.concatenate([*heard, np.zeros(0, np.int16)]).astype(np.float32) / 32768


def _spoken(voice: SynthVoice, seed: int, pause: float) -> Iterator[tuple[str, Sentence, np.ndarray]]:
    """Id, sentence and wave of what a voice says, without end."""
    silence = np.zeros(samples_of_seconds(pause, _ESPEAK_RATE), np.float32)
    to_say, to_label = tee(stream(seed=seed, language=voice.language))
    waves = synthesise_texts(voice, (sentence.text for sentence in to_say))
    for index, (wave, sentence) in enumerate(zip(waves, to_label, strict=False)):
        yield f"{voice.name}/{index:05d}-{sentence.kind}", sentence, np.concatenate([silence, wave, silence])


@contextmanager
def _espeak() -> Iterator[tuple[ctypes.CDLL, Path]]:
    """A private copy of espeak-ng in its first state, and the folder of its data.

    The library keeps the phase of its oscillators, noise and flutter in static variables that nothing resets: what it
    says depends on all it has said before in this process, and two threads would disturb each other. A copy of the file
    has statics of its own (2 ms a copy), so each voice begins alike.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingPackageError(
            'synthesised voices need espeak-ng, which is not installed; run: pip install "cosytune[synth]"'
        ) from error
    with tempfile.TemporaryDirectory(prefix="cosytune-") as folder:
        library = ctypes.CDLL(shutil.copy(espeakng_loader.get_library_path(), folder))
        data = Path(espeakng_loader.get_data_path())
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _DO_NOT_EXIT)
        if rate != _ESPEAK_RATE:
            raise InputError(
                f"espeak-ng does not start with the data in {data}; "
                "its path may be longer than the 160 characters that espeak-ng allows: install in a shorter one"
            )
        try:
            yield library, data
        finally:
            library.espeak_Terminate()
            ctypes.CDLL(None).dlclose(ctypes.c_void_p(library._handle))
