"""The command line: its groups of commands, and its handling of errors. Each group is a module `*_commands.py` that declares
its commands in a few lines; the work of a command is in a module of its own, which is imported when it runs, so that `--help`
stays fast."""

from __future__ import annotations

import os
import sys

import typer

from infra.cli import (
    develop_commands,
    feature_commands,
    inspect_commands,
    request_commands,
    stack_commands,
    task_commands,
    training_commands,
)
from infra.subcommands import know_declared_tasks
from schemas.errors import MillraceError
from streams.terminal_text import visible

app = typer.Typer(
    no_args_is_help=True,
    name="millrace",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Event-driven machine learning on Kafka. Start with `./millrace demo`.",
)
for group in (
    stack_commands,
    request_commands,
    task_commands,
    training_commands,
    feature_commands,
    inspect_commands,
    develop_commands,
):
    app.add_typer(group.app)  # without a name: its commands become direct commands of `./millrace`


def main() -> None:
    """Errors of Millrace and of the disk print one line and exit with code 1; Ctrl-C exits with 130."""
    know_declared_tasks()
    try:
        app(prog_name="./millrace")
    except MillraceError as error:
        print(f"{error.code}: {visible(str(error))}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader of a pipe stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"system: {visible(str(error))}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
