"""`cosytune data ...`: from recordings to a corpus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cosytune.cli.output import ProgressBars, print_result
from cosytune.cli.training_options import JSON

if TYPE_CHECKING:
    from cosytune.models.onnx_session import OnnxPrecision

__all__ = ["app"]


def counter(bars: ProgressBars, name: str) -> Callable[[int], None]:
    """Says how many are done of nobody knows how many: a source is read as a stream."""

    def told(done: int) -> None:
        if done & (done - 1) == 0 and done >= SAID_FROM:
            bars.say(f"{name}: {done} done")

    return told


SAID_FROM = 64
"""Of a count that is said at every power of two."""

app = typer.Typer(help="From recordings to a corpus: check, prepare, export, synth.")


@app.command()
def check(
    folder: Path = typer.Argument(..., help="Recordings as `prepare` takes them: a folder or a table."),
    output: Path = typer.Option(Path("check.html"), "--output", "-o", help="Page to write; the JSON goes beside it."),
    model: Path = typer.Option(None, "--model", help="Model the corpus is for: its tokenizer looks at the texts."),
    language: str = typer.Option(None, "--language", help="Language code of all clips; guessed without it."),
    recogniser: str = typer.Option(
        "pocketsphinx", "--recogniser", help="pocketsphinx (English), a local Whisper folder, or none."
    ),
    voices: bool = typer.Option(True, "--voices/--no-voices", help="Compare each clip's voice with its speaker's."),
    limit: int = typer.Option(None, "--limit", min=1, help="Look at so many clips, spread over the folder."),
    workers: int = typer.Option(None, "--workers", min=1, help="Processes; one per core without it."),
    engine: str = typer.Option("local", "--engine", help="local, or ray for a cluster (extra: cluster)."),
    as_json: bool = JSON,
) -> None:
    """Say what is wrong with recordings, on a page with players.

    Only the page and its JSON are written.

    Exit status 0 if anything can be used, 3 if nothing can.
    """
    from cosytune.cli.output import progress
    from cosytune.comparison.compose.checking import check as check_folder
    from cosytune.comparison.compose.checking import check_paths
    from cosytune.errors import DataError
    from cosytune.report.doctor import summary, write_doctor_page

    page, data = check_paths(folder, output)
    with progress() as bars:
        result, exhibits = check_folder(
            folder,
            bars,
            language=language,
            model=model,
            recogniser=recogniser,
            voices=voices,
            limit=limit,
            engine=engine,
            workers=workers,
        )
    result.write(data)
    write_doctor_page(result, exhibits, page, data.name)
    value = {"page": str(page), "data": str(data), "usable": result.usable, "left_out": result.left_out}
    value.update(result.account())
    print_result(value, f"{summary(result)}\n{page}, {data}", as_json=as_json)
    if not result.usable:
        raise typer.Exit(DataError.exit_status)


@app.command()
def prepare(
    folder: Path = typer.Argument(..., help="Recordings: a folder of any layout of docs/data.md, a table, a file."),
    output: Path = typer.Option(..., "--output", "-o", help="Corpus folder to write."),
    model: Path = typer.Option(None, "--model", help="Also extract features with this model's front ends."),
    onnx_precision: str = typer.Option(
        None,
        "--onnx-precision",
        help="A released speech tokenizer in float32, or in bfloat16: twice as fast where the processor has it, about "
        "1 code in 100 differs. The corpus keeps it for all that follows. (Default: as before; a new corpus: float32.)",
    ),
    check: Path = typer.Option(
        None, "--check", help="JSON of `data check`, edited or not: its decisions are carried out."
    ),
    transcribe: str = typer.Option(
        None, "--transcribe", help="Recogniser for clips without transcript: pocketsphinx, or a local Whisper folder."
    ),
    cut: bool = typer.Option(True, "--cut/--no-cut", help="Cut long recordings at pauses and subtitles, or drop them."),
    detector: str = typer.Option("auto", "--detector", help="Of pauses: silero, energy, or auto (silero if there)."),
    recipe: str = typer.Option(None, "--recipe", help="Lhotse recipe that reads the folder, such as ljspeech."),
    language: str = typer.Option(None, "--language", help="Language code of all clips; guessed without it."),
    shortest: float = typer.Option(0.1, "--shortest", min=0.0, help="Seconds; shorter clips are dropped."),
    longest: float = typer.Option(30.0, "--longest", min=1.0, help="Seconds; longer recordings are cut."),
    validation: float = typer.Option(0.1, "--validation", min=0.0, max=0.5, help="Share of validation sentences."),
    test: float = typer.Option(0.1, "--test", min=0.0, max=0.5, help="Share of test sentences."),
    seed: int = typer.Option(0, "--seed", min=0, help="Of the split."),
    workers: int = typer.Option(None, "--workers", min=1, help="Processes; one per core without it."),
    engine: str = typer.Option("local", "--engine", help="local, or ray for a cluster (extra: cluster)."),
    ray_address: str = typer.Option(None, "--ray-address", help="Of a running Ray cluster; else RAY_ADDRESS."),
    as_json: bool = JSON,
) -> None:
    """Write a corpus: manifest, ledger, splits, features.

    No clip is dropped without a line in the ledger.
    """
    from cosytune.cli.output import progress
    from cosytune.data.prepare import prepare_corpus

    precision = named_precision(onnx_precision, model)
    with progress() as bars:
        corpus = prepare_corpus(
            folder,
            output,
            engine=engine,  # type: ignore[arg-type]
            workers=workers,
            address=ray_address,
            progress=counter(bars, "recordings"),
            check=check,
            transcribe=transcribe,
            cut=cut,
            detector=detector,
            recipe=recipe,
            language=language,
            shortest=shortest,
            longest=longest,
            validation=validation,
            test=test,
            seed=seed,
        )
    lines, value = [corpus.ledger.summary()], {"corpus": str(output), **corpus.info}
    if model is not None:
        from cosytune.models.folder import read_model
        from cosytune.training.features import corpus_features, precision_of, set_precision

        opened = read_model(model)
        if precision is not None:
            set_precision(corpus, precision)
        with progress() as bars:
            store = corpus_features(
                corpus,
                opened,
                bars,
                engine=engine,  # type: ignore[arg-type]
                workers=workers,
                address=ray_address,
            )
        lines.append(f"features: {store.ledger.summary()}")
        value["features"] = {**store.ledger.as_json(), "onnx_precision": precision_of(corpus, opened)}
        if store.pace is not None:
            value["features"]["hours_of_audio_per_hour"] = store.pace.hours_per_hour
    sides = corpus.info["sides"]
    lines.append(f"{output}: " + ", ".join(f"{count} {side}" for side, count in sides.items()))
    print_result(value, "\n".join(lines), as_json=as_json)


def named_precision(text: str | None, model: Path | None) -> OnnxPrecision | None:
    """`--onnx-precision` as a name, refused before recordings are looked at if nothing could come of it.

    Raises:
        InputError: there is no such precision, or nothing is extracted.
        ModelError: the model has no ONNX graph that could run in it.
        MachineError, MissingPackageError: this machine cannot run one in it.
    """
    from typing import get_args

    from cosytune.errors import InputError
    from cosytune.models.extractors import FrontEnds
    from cosytune.models.folder import read_front_ends
    from cosytune.models.onnx_session import OnnxPrecision
    from cosytune.models.openvino_session import check_bfloat16

    found: OnnxPrecision | None = next((name for name in get_args(OnnxPrecision) if name == text), None)
    if text is not None and found is None:
        raise InputError(f"--onnx-precision {text!r} is not known; give {' or '.join(get_args(OnnxPrecision))}")
    if found is not None and model is None:
        raise InputError("--onnx-precision is of features, and none are extracted without --model; give both or none")
    if found == "bfloat16" and model is not None:
        check_bfloat16()
        FrontEnds(read_front_ends(model), found)
    return found


@app.command()
def export(
    corpus: Path = typer.Argument(..., help="Prepared corpus."),
    output: Path = typer.Option(..., "--output", "-o", help="New folder for train/, validation/ and test/."),
    model: Path = typer.Option(..., "--model", help="The model that upstream's training will start from."),
    as_json: bool = JSON,
) -> None:
    """Write a corpus as upstream's Parquet lists.

    CosyVoice's own training reads them by their data.list.
    """
    from cosytune.cli.output import progress
    from cosytune.data.corpus import Corpus
    from cosytune.data.exporting import write_upstream_lists
    from cosytune.models.folder import read_model
    from cosytune.training.features import corpus_features

    opened = Corpus(corpus)
    with progress() as bars:
        store = corpus_features(opened, read_model(model), bars)
    ledger = write_upstream_lists(opened, store, output)
    print_result({"folder": str(output), **ledger.as_json()}, f"{output}: {ledger.summary()}", as_json=as_json)


@app.command()
def synth(
    output: Path = typer.Option(..., "--output", "-o", help="Folder to fill with speech synthesised by espeak-ng."),
    voices: int = typer.Option(8, "--voices", min=1, help="Different voices."),
    minutes: float = typer.Option(10.0, "--minutes", min=0.1, help="Minutes of speech in all."),
    language: list[str] = typer.Option(["en"], "--language", help="en or zh; given twice, the voices share them."),
    sample_rate: int = typer.Option(22_050, "--sample-rate", min=8_000, max=48_000, help="Hz to write."),
    seed: int = typer.Option(0, "--seed", min=0, help="The same seed gives the same corpus."),
    as_json: bool = JSON,
) -> None:
    """Make a corpus of many synthetic voices, for demos and tests."""
    from cosytune.cli.output import progress
    from cosytune.data.synthesised import make_voices, synthesise_corpus

    speakers = make_voices(voices, seed=seed, languages=language)
    with progress() as bars:
        bars.start("voices", voices)
        clips = synthesise_corpus(
            output,
            voices=speakers,
            minutes_per_voice=minutes / voices,
            seed=seed,
            sample_rate=sample_rate,
            progress=lambda done, _: bars.move("voices", done),
        )
    seconds = sum(clip.seconds for clip in clips)
    print_result(
        {"folder": str(output), "clips": len(clips), "seconds": round(seconds, 1)},
        f"{output}: {len(clips)} clips, {seconds / 60:.1f} min",
        as_json=as_json,
    )
