"""`cosytune inspect`: what is in a model folder."""

from __future__ import annotations

from pathlib import Path

import typer

from cosytune.cli.output import print_result

__all__ = ["command"]


def command(
    model: Path = typer.Argument(..., help="Model folder, cosytune's own or a released CosyVoice 1 one."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """List the parts, sizes, rates, voices and lineage of a model folder."""
    from cosytune.models.folder import read_model

    found = read_model(model)
    sizes = found.parameters()
    lines = [
        f"{found.name} (stage: {found.stage})",
        f"  {found.clock.sample_rate} Hz, {found.clock.token_rate} speech tokens/s, "
        f"{found.mel.bins} mel bins, hop {found.mel.hop}",
        *(f"  {part}: {count:,} parameters" for part, count in sizes.items()),
        *(f"  {part}: {file.name}{'' if file.is_file() else ' (missing)'}" for part, file in found.onnx.items()),
        f"  text tokenizer: {found.tokenizer.kind}",
        f"  voices: {', '.join(sorted(found.voices)) or 'none'}",
        *(
            f"  came through: {entry.get('stage', '?')} on corpus {str(entry.get('corpus_hash', '?'))[:12]}"
            for entry in found.lineage
        ),
    ]
    value = {
        "name": found.name,
        "stage": found.stage,
        "clock": vars(found.clock),
        "parts": sizes,
        "onnx": {part: {"file": str(file), "present": file.is_file()} for part, file in found.onnx.items()},
        "text_tokenizer": found.tokenizer.kind,
        "voices": sorted(found.voices),
        "lineage": found.lineage,
    }
    print_result(value, "\n".join(lines), as_json=as_json)
