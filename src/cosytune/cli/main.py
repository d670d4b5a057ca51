"""The command line: one file per verb, errors in one sentence, exit status that tells."""

from __future__ import annotations

import io
import os
import sqlite3
import sys
from typing import Any

import typer

from cosytune import __version__
from cosytune.cli import average, bench, compare, data, demo, dial, evaluate, inspect, plan, pretrain, say, sft, tune
from cosytune.cli.output import print_error
from cosytune.cli.training_options import by_all_processes
from cosytune.errors import CosytuneError

__all__ = ["app", "main"]

# Typer brings its own copy of click in newer releases and uses the package in older ones; the root of the errors about
# the command line itself is reached the same way in both.
_CommandLineError: Any = typer.BadParameter.__mro__[2]
STOPPED = 130
"""Exit status after Ctrl-C, as shells have it (128 + SIGINT)."""

app = typer.Typer(
    name="cosytune",
    help="Fine-tune CosyVoice-class text-to-speech and get a measured verdict.",
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
for verb in (pretrain, sft, tune, compare):
    app.command(name=verb.__name__.rsplit(".", 1)[-1])(by_all_processes(verb.command))
for verb in (plan, dial, average, say, evaluate, inspect, bench, demo):
    app.command(name=verb.__name__.rsplit(".", 1)[-1])(verb.command)


def _verb(error: Any) -> str:
    """The command that was given wrongly, as typed: `cosytune data check`."""
    return "cosytune" if error.ctx is None else str(error.ctx.command_path)


def main() -> None:
    """Run one command; a known error becomes one sentence on stderr and its own exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character must not cost the result of an hour.
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] or ["--help"]
    as_json = "--json" in arguments
    try:
        status = app(args=arguments, prog_name="cosytune", standalone_mode=False)
    except CosytuneError as error:
        print_error(str(error), as_json=as_json)
        sys.exit(error.exit_status)
    except _CommandLineError as error:
        print_error(f"{error.format_message()} ({_verb(error)} --help lists all)", as_json=as_json)
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        status = STOPPED
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not complain about that when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (OSError, sqlite3.OperationalError) as error:
        # SQLite has an error of its own for a disk that is full.
        print_error(f"{error}; check the path, the permissions and the space on the disk", as_json=as_json)
        sys.exit(CosytuneError.exit_status)
    if status == STOPPED:
        print_error("stopped by the user; work that is resumable goes on with the same command", as_json=as_json)
    sys.exit(status if isinstance(status, int) else 0)
