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
    seed: int = typer.Option(0, "--seed", min=0, help="The same seed gives the same speech."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Speak a text with a named voice or the voice of a recording."""
    from cosytune.audio.files import read_wave
    from cosytune.models.folder import read_model
    from cosytune.synthesis.requests import Request
    from cosytune.synthesis.synthesiser import Synthesiser

    words = _text(text, file)
    wave, rate = read_wave(prompt_wav) if prompt_wav is not None else (None, None)
    request = Request(words, voice, wave, rate, prompt_text, seed, name="say")
    speech = Synthesiser(read_model(model)).speak(request)
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
    if file is None:
        return sys.stdin.read() if text == "-" else str(text)
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as UTF-8 text: {error}") from error
