"""Commands that show the state of the stack: `status`, `logs`, `topics`, `tail`, `config show`."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.subcommands import Json, settings

PANEL = "Look inside"

app = typer.Typer()
config_app = typer.Typer(no_args_is_help=True, help="Show settings and where each value comes from.")


@app.command(rich_help_panel=PANEL)
def status(as_json: Json = False) -> None:
    """Show the processes of the stack, their state and figures."""
    from infra.cli import process_table

    process_table.status(settings(), as_json)


@app.command(rich_help_panel=PANEL)
def logs(
    name: Annotated[str, typer.Argument(help="Name of a process, as `status` shows it; all of them if left out.")] = "",
    lines: Annotated[int, typer.Option(help="Number of lines to print from the end.", min=1, max=1_000_000)] = 30,
) -> None:
    """Print the last lines of the processes' logs."""
    from infra.cli import process_table

    process_table.logs(settings(), name, lines)


@app.command(rich_help_panel=PANEL)
def topics(
    provision: Annotated[bool, typer.Option("--provision", help="Create missing topics and register missing schemas.")] = False,
    as_json: Json = False,
) -> None:
    """List every topic with its records, lag and guarantee."""
    from infra.cli import topic_table

    topic_table.topics(settings(), provision, as_json)


@app.command(rich_help_panel=PANEL)
def tail(
    topic: Annotated[str, typer.Argument(help="Name of a topic; retry and dead-letter topics work too.")],
    limit: Annotated[
        int, typer.Option("--limit", "-n", help="Stop after this number of records; 0 continues until Ctrl-C.", min=0)
    ] = 0,
    first: Annotated[bool, typer.Option("--first", help="Begin with the oldest record instead of new ones.")] = False,
    as_json: Json = False,
) -> None:
    """Print decoded records of a topic as they arrive."""
    from infra.cli import record_lines

    record_lines.tail(settings(), topic, limit, first, as_json)


@config_app.command("show")
def config_show(as_json: Json = False) -> None:
    """List every setting with its value, and whether a variable or the default gave it."""
    from infra.cli import settings_table

    settings_table.config(as_json)


app.add_typer(config_app, name="config", rich_help_panel=PANEL)
