"""Commands for those who change Millrace: `test`, `check`, `fix`, `bench`, `chaos`, `mutate`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from infra.subcommands import PASSED_ON, Json, python, settings

PANEL = "Develop"

app = typer.Typer()


@app.command(context_settings=PASSED_ON, rich_help_panel=PANEL)
def test(context: typer.Context) -> None:
    """Run all tests, on real servers too. Arguments go to pytest."""
    from infra.cli import suite

    sys.exit(suite.test(settings(), context.args))


@app.command(rich_help_panel=PANEL)
def check() -> None:
    """Check format, lint, types, imports and generated files.

    It changes nothing."""
    from infra.cli import checks

    sys.exit(checks.check())


@app.command(rich_help_panel=PANEL)
def fix() -> None:
    """Format the code, fix lint, and write generated files."""
    from infra.cli import checks

    sys.exit(checks.fix())


@app.command(context_settings=PASSED_ON, rich_help_panel=PANEL)
def bench(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="worker, latency, processes, peers, tasks, models, chat, chat_gpu, chat_topics, swap, features, drift, gate, retraining, recommendation or monitor."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Run a benchmark and print its figures beside the references."""
    from infra.local import stack

    stack.fetch(settings())
    extra = ["--json"] if as_json else []
    sys.exit(python(f"tests.benchmarks.{name}", *context.args, *extra, MILLRACE_HOME=settings().home))


@app.command(context_settings=PASSED_ON, rich_help_panel=PANEL)
def chaos(context: typer.Context) -> None:
    """Kill and freeze processes at random, then check the ledger.

    Options: --seconds, --seed, --seeds, --scale, --chat."""
    from infra.local import stack

    stack.fetch(settings())
    sys.exit(python("tests.chaos.storm", *context.args, MILLRACE_HOME=settings().home))


@app.command(context_settings=PASSED_ON, rich_help_panel=PANEL)
def mutate(context: typer.Context) -> None:
    """Put small faults into the loop and see whether tests fail.

    Options: --sample, --seed, --module, --list, --json."""
    sys.exit(python("tests.mutate", *context.args))
