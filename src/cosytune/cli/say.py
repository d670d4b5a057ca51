"""`cosytune say`: speak a text with a named voice or the voice of a recording."""

from __future__ import annotations

from pathlib import Path

import typer

from cosytune.cli.output import print_result

__all__ = ["command"]


def command(
    text: str = typer.Argument(None, help="What to say; - reads standard input."),
    model: Path = typer.Option(..., "--model", "-m", help="Model folder."),
    voice: str = typer.Option(None, "--voice", "-v", help="A named voice of the model."),
    prompt_wav: Path = typer.Option(None, "--prompt-wav", help="A recording whose voice is taken instead."),
    prompt_text: str = typer.Option(None, "--prompt-text", help="What is said in the recording (zero-shot)."),
    file: Path = typer.Option(None, "--file", "-f", help="Read the text from a UTF-8 file."),
    output: Path = typer.Option(Path("speech.wav"), "--output", "-o", help="wav, flac, mp3 or ogg."),
    language: str = typer.Option(None, "--language", help="Code of the text, for reading numbers; guessed without it."),
    seed: int = typer.Option(0, "--seed", min=0, help="The same seed gives the same speech."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Speak a text with a named voice or the voice of a recording."""
    from cosytune.audio.files import FORMATS, read_wave
    from cosytune.cli.output import progress
    from cosytune.errors import InputError
    from cosytune.models.folder import read_model
    from cosytune.synthesis.requests import Request
    from cosytune.synthesis.synthesiser import Synthesiser

    if output.suffix.lower().removeprefix(".") not in FORMATS:
        raise InputError(f"--output {output} must end in one of {', '.join(f'.{name}' for name in FORMATS)}")
    if (voice is None) == (prompt_wav is None):
        raise InputError("give either --voice NAME or --prompt-wav FILE; cosytune inspect lists a model's voices")
    if prompt_text is not None and prompt_wav is None:
        raise InputError("--prompt-text says what is said in --prompt-wav; give that recording, or leave the text out")
    words = _text(text, file)
    wave, rate = read_wave(prompt_wav) if prompt_wav is not None else (None, None)
    request = Request(words, voice, wave, rate, prompt_text, language, seed, "say")
    with progress() as bars:
        synthesiser = Synthesiser(read_model(model))

        def moved(done: int, total: int) -> None:
            if not done:
                bars.start("speaking", total)
            bars.move("speaking", done)

        speech = synthesiser.speak(request, moved)
    speech.save(output)
    cut = sum(not ended for ended in speech.ended)
    note = f"; {cut} of {len(speech.pieces)} sentences ran into the length limit" if cut else ""
    print_result(
        {
            "output": str(output),
            "seconds": round(speech.seconds, 3),
            "sample_rate": speech.sample_rate,
            "pieces": speech.pieces,
            "tokens": [len(tokens) for tokens in speech.tokens],
            "ended": speech.ended,
            "seconds_spent": {part: round(spent, 3) for part, spent in speech.seconds_spent.items()},
            "real_time_factor": round(speech.real_time_factor, 3),
        },
        f"{output}: {speech.seconds:.2f} s of speech, real-time factor {speech.real_time_factor:.2f}{note}",
        as_json=as_json,
    )


def _text(text: str | None, file: Path | None) -> str:
    import sys

    from cosytune.errors import InputError

    if (text is None) == (file is None):
        raise InputError("give the text either as an argument (- for standard input) or with --file")
    if file is None and text != "-":
        return str(text)
    try:
        return sys.stdin.buffer.read().decode("utf-8") if file is None else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file or 'standard input'} cannot be read as UTF-8 text ({error}); save it as UTF-8"
        ) from error
