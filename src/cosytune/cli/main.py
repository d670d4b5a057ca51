"""The command line: one file per verb, errors in one sentence, exit status that tells."""

from __future__ import annotations

import sys

import click
import typer

from cosytune import __version__
from cosytune.cli import compare, data, demo, evaluate, inspect, pretrain, say, sft, tune
from cosytune.cli.output import print_error
from cosytune.errors import CosytuneError

__all__ = ["app", "main"]

app = typer.Typer(
    name="cosytune",
    help="Fine-tune CosyVoice-class text-to-speech and get a measured verdict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cosytune {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Fine-tune CosyVoice-class text-to-speech and get a measured verdict."""


app.add_typer(data.app, name="data")
for verb in (pretrain, sft, tune, say, evaluate, compare, inspect, demo):
    app.command(name=verb.__name__.rsplit(".", 1)[-1])(verb.command)


def main() -> None:
    """Run one command; a known error becomes one sentence on stderr and its own exit status."""
    as_json = "--json" in sys.argv
    try:
        status = app(standalone_mode=False)
    except CosytuneError as error:
        print_error(str(error), as_json=as_json)
        sys.exit(error.exit_status)
    except click.ClickException as error:
        if as_json:
            print_error(error.format_message(), as_json=True)
        else:
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print_error("stopped by the user; the same command goes on where it stopped", as_json=as_json)
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)
