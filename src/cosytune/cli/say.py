"""`cosytune say`: speak a text, convert a recording, keep a voice, or speak a whole file of requests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cosytune.cli.output import print_result

if TYPE_CHECKING:
    from cosytune.errors import ModelError
    from cosytune.synthesis.requests import Request, Speech
    from cosytune.synthesis.synthesiser import Synthesiser

__all__ = ["command"]


def command(
    text: str = typer.Argument(None, help="What to say; - reads standard input."),
    model: Path = typer.Option(..., "--model", "-m", help="Model folder."),
    voice: str = typer.Option(None, "--voice", "-v", help="A named voice of the model."),
    prompt_wav: Path = typer.Option(None, "--prompt-wav", help="A recording whose voice is taken instead."),
    prompt_text: str = typer.Option(None, "--prompt-text", help="What is said in the recording (zero-shot)."),
    instruct: str = typer.Option(None, "--instruct", help="How to say it, in words (instruct models)."),
    convert: Path = typer.Option(None, "--convert", help="A recording to be said again by the voice."),
    file: Path = typer.Option(None, "--file", "-f", help="Read the text from a UTF-8 file of any length."),
    batch: Path = typer.Option(None, "--batch", help="Speak a file of requests, one JSON object a line."),
    output: Path = typer.Option(
        None, "--output", "-o", help="wav, flac, mp3 or ogg; a folder with --batch; - streams 16-bit PCM to stdout."
    ),
    audio_format: str = typer.Option(None, "--format", help="Of the recordings of --batch: wav (if not given), ..."),
    save_voice: str = typer.Option(None, "--save-voice", help="Keep the prompt's voice in the model under this name."),
    replace_voice: bool = typer.Option(False, "--replace-voice", help="Let --save-voice take a name that is there."),
    language: str = typer.Option(None, "--language", help="Code of the text, for reading numbers; guessed without it."),
    speed: float = typer.Option(1.0, "--speed", help="0.5 (slow) to 2 (fast)."),
    seed: int = typer.Option(0, "--seed", min=0, help="The same seed gives the same speech."),
    precision: str = typer.Option("float32", "--precision", help="float32, or bfloat16: faster, not quite the same."),
    device: str = typer.Option("cpu", "--device", help="cpu, or cuda where a GPU is."),
    rows: int = typer.Option(16, "--rows", min=1, help="Sentences decoded at once; a stream has one."),
    steps: int = typer.Option(10, "--steps", min=1, help="Steps of the flow: fewer are faster and rougher."),
    method: str = typer.Option("euler", "--method", help="Of the flow's steps: euler, or midpoint (twice the work)."),
    retries: int = typer.Option(
        2, "--retries", min=0, help="Further tries for a sentence that goes wrong; a stream has none."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Speak a text or a file of requests, or convert a recording."""
    from cosytune.errors import InputError
    from cosytune.models.flow.solver import SolverConfig
    from cosytune.models.folder import check_free, read_model
    from cosytune.synthesis.guards import GuardConfig
    from cosytune.synthesis.synthesiser import Synthesiser

    flow_steps = SolverConfig(steps=steps, method=method)  # type: ignore[arg-type]

    def synthesiser() -> Synthesiser:
        return Synthesiser(
            read_model(model),
            precision=precision,  # type: ignore[arg-type]
            device=device,
            solver=flow_steps,
            guards=GuardConfig(retries=retries),
            rows=rows,
        )

    if batch is not None:
        given = (text, voice, prompt_wav, prompt_text, instruct, convert, file, save_voice, language)
        if any(each is not None for each in given) or speed != 1.0 or seed != 0 or replace_voice:
            raise InputError("--batch brings its own requests; put text, voice, speed and the rest in its lines")
        if output is None:
            raise InputError("--batch needs a folder for its recordings: give --output FOLDER")
        settings = {"precision": precision, "device": device, "steps": steps, "method": method, "retries": retries}
        _batch(synthesiser, model, batch, output, audio_format or "wav", settings, as_json)
        return
    if audio_format is not None:
        raise InputError("--format is for --batch; the suffix of --output decides here")
    output = output or Path("speech.wav")
    _check_output(output, as_json)
    _check_voice(voice, prompt_wav, prompt_text, save_voice, replace_voice)
    words = {"voice": voice, "prompt_text": prompt_text, "instruct": instruct, "language": language}
    request = _request(text, file, convert, prompt_wav, speed=speed, seed=seed, **words)
    ready = synthesiser()
    if save_voice is not None:
        check_free(model.resolve().name, ready.model.voices, save_voice, replace=replace_voice)
    speech = _said(ready, request, output)
    if save_voice is not None:  # after the speech: a request that fails keeps no voice
        _save_voice(ready, request, model, save_voice, replace_voice)
    if speech is not None:
        _report(speech, output, as_json)


def _check_output(output: Path, as_json: bool) -> None:
    from cosytune.audio.files import FORMATS
    from cosytune.errors import InputError

    if str(output) == "-":
        if as_json:
            raise InputError("--json and --output - would mix on standard output; give a file, or leave --json out")
        return
    if output.is_dir():
        raise InputError(f"--output {output} is a folder; name the recording that is to be made in it")
    if output.suffix.lower().removeprefix(".") not in FORMATS:
        raise InputError(f"--output {output} must end in one of {', '.join(f'.{name}' for name in FORMATS)}, or be -")


def _check_voice(
    voice: str | None, prompt_wav: Path | None, prompt_text: str | None, save_voice: str | None, replace_voice: bool
) -> None:
    from cosytune.errors import InputError

    if (voice is None) == (prompt_wav is None):
        raise InputError("give either --voice NAME or --prompt-wav FILE; cosytune inspect lists a model's voices")
    if prompt_text is not None and prompt_wav is None:
        raise InputError("--prompt-text says what is said in --prompt-wav; give that recording, or leave the text out")
    if save_voice is not None and prompt_wav is None:
        raise InputError("--save-voice keeps the voice of a recording; give --prompt-wav, and --prompt-text if you can")
    if replace_voice and save_voice is None:
        raise InputError("--replace-voice is about --save-voice NAME; give that as well, or leave it out")


def _request(
    text: str | None, file: Path | None, convert: Path | None, prompt_wav: Path | None, **rest: Any
) -> Request:
    from cosytune.synthesis.requests import Request

    prompt, prompt_rate = _recording(prompt_wav)
    source, source_rate = _recording(convert)
    request = Request(
        text="" if convert is not None and text is None and file is None else _text(text, file),
        prompt_wave=prompt,
        prompt_rate=prompt_rate,
        source_wave=source,
        source_rate=source_rate,
        name="say",
        **rest,
    )
    _ = request.mode  # a contradiction is told before a model is read
    return request


def _recording(path: Path | None) -> tuple[Any, int | None]:
    from cosytune.synthesis.conditions import read_recording

    return (None, None) if path is None else read_recording(path)


def _said(synthesiser: Synthesiser, request: Request, output: Path) -> Speech | None:
    """Speak into a file, or stream to standard output: then there is no speech to report."""
    if str(output) == "-":
        _stream(synthesiser, request)
        return None
    speech = _spoken(synthesiser, request)
    if speech.empty:
        raise _nothing(speech.problems)
    speech.save(output)
    return speech


def _spoken(synthesiser: Synthesiser, request: Request) -> Speech:
    from cosytune.cli.output import progress

    with progress() as bars:

        def moved(done: int, total: int) -> None:
            if not done:
                bars.start("speaking", total)
            bars.move("speaking", done)

        return synthesiser.speak(request, moved)


def _report(speech: Speech, output: Path, as_json: bool) -> None:
    from cosytune.synthesis.batch import describe

    lines = [
        f"{output}: {speech.seconds:.2f} s of speech ({speech.mode}), real-time factor {speech.real_time_factor:.2f}",
        *(f"  {problem}" for problem in speech.problems),
    ]
    print_result({"output": str(output), **describe(speech)}, "\n".join(lines), as_json=as_json)


def _save_voice(synthesiser: Synthesiser, request: Request, model: Path, name: str, replace: bool) -> None:
    import sys

    from cosytune.models.folder import add_voice

    assert request.prompt_wave is not None and request.prompt_rate is not None
    voice = synthesiser.voice_of(request.prompt_wave, request.prompt_rate, request.prompt_text)
    add_voice(model, name, voice, replace=replace)
    sys.stderr.write(f"{model} has the voice {name!r} now\n")


def _stream(synthesiser: Synthesiser, request: Request) -> None:
    import sys

    from cosytune.audio.files import pcm16
    from cosytune.synthesis.requests import problems_of

    with synthesiser.stream(request) as stream:
        sys.stderr.write(f"streaming 16-bit little-endian mono PCM at {stream.sample_rate} Hz to standard output\n")
        for chunk in stream:
            sys.stdout.buffer.write(pcm16(chunk).tobytes())
            sys.stdout.buffer.flush()
        spent = sum(stream.seconds_spent.values())
        first = stream.first_chunk_seconds
    problems = problems_of(stream.pieces)
    if first is None or not any(piece.tokens for piece in stream.pieces):
        raise _nothing(problems)
    seconds = sum(piece.seconds for piece in stream.pieces)
    sys.stderr.write(
        f"{seconds:.2f} s of speech, first chunk after {first:.2f} s, real-time factor {spent / seconds:.2f}\n"
    )
    sys.stderr.writelines(f"  {problem}\n" for problem in problems)


def _nothing(problems: Sequence[str]) -> ModelError:
    from cosytune.errors import ModelError

    return ModelError(f"nothing came out: {'; '.join(problems)}; try another --seed, or another model")


def _batch(
    synthesiser: Any, model: Path, batch: Path, output: Path, audio_format: str, settings: dict[str, Any], as_json: bool
) -> None:
    from cosytune.cli.output import progress
    from cosytune.models.folder import identity_of
    from cosytune.synthesis.batch import RESULTS, BatchResult, speak_batch
    from cosytune.synthesis.batch_lines import read_batch

    lines = read_batch(batch)
    with progress() as bars:
        bars.start("speaking", len(lines))
        numbers = count(1)

        def done(result: BatchResult) -> None:
            bars.move("speaking", next(numbers))
            if result.error is not None:
                bars.say(f"{result.id}: {result.error.removeprefix(f'{result.id}: ')}")

        totals = speak_batch(
            synthesiser(),
            lines,
            output,
            source=batch.parent,
            settings={**settings, "model": identity_of(model, voices=False)},
            format=audio_format,
            done=done,
        )
    text = f"{output}: {totals.spoken} of {len(lines)} requests spoken, {totals.seconds:.1f} s; see {RESULTS}"
    print_result({"output": str(output), **vars(totals)}, text, as_json=as_json)
    if totals.failed:
        raise typer.Exit(1)


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
