"""Commands of declared tasks: `tasks add`, `list`, `check`, `remove`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.subcommands import Json, settings

PANEL = "Models and training"
Name = Annotated[str, typer.Argument(help="Name of the task.")]

app = typer.Typer()
tasks_app = typer.Typer(no_args_is_help=True, help="Put models of your own behind topics.")
app.add_typer(tasks_app, name="tasks", rich_help_panel=PANEL)


@tasks_app.command("add")
def tasks_add(
    name: Annotated[str, typer.Argument(help="Name of the task: lower-case words joined by hyphens.")],
    kind: Annotated[str, typer.Option(help="What it does: `tasks list --kinds` shows the kinds.")] = "",
    model: Annotated[str, typer.Option(help="Address of the model: hf:ID, folder:PATH, package:NAME, models:/NAME@ALIAS.")] = "",
    code: Annotated[Path | None, typer.Option(help="A Python file that defines the task, instead of a kind.")] = None,
    max_batch: Annotated[int | None, typer.Option(help="Maximum number of requests in a batch.")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of worker processes.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="An option of the kind: KEY=VALUE; a list is separated by commas. May be repeated.")
    ] = None,
) -> None:
    """Declare a task in millrace.toml, and start it if the stack runs.

    The model is loaded and answers an example before anything is written."""
    from infra.tasks import add

    given = {"kind": kind, "model": model, "code": str(code) if code else "", "max_batch": max_batch, "workers": workers}
    add.add(settings(), name, {key: value for key, value in given.items() if value not in ("", None)}, option or [])


@tasks_app.command("list")
def tasks_list(
    kinds: Annotated[bool, typer.Option("--kinds", help="List the kinds of task and their options instead.")] = False,
    as_json: Json = False,
) -> None:
    """List the tasks: kind, model, state, and requests that wait."""
    from infra.tasks import task_table

    if kinds:
        task_table.show_kinds(as_json)
    else:
        task_table.show(settings(), as_json)


@tasks_app.command("check")
def tasks_check(
    name: Annotated[str, typer.Argument(help="Name of a declared task; only the file is read if left out.")] = "",
    as_json: Json = False,
) -> None:
    """Check millrace.toml; with a name, load the task's model and run the checks of tasks on it."""
    from infra.tasks import checked

    sys.exit(checked.check(settings(), name, as_json))


@tasks_app.command("remove")
def tasks_remove(
    name: Name,
    delete_data: Annotated[bool, typer.Option("--delete-data", help="Delete its topics and schemas too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Remove it even if requests wait; nobody answers them then.")] = False,
) -> None:
    """Stop a declared task and take it out of millrace.toml. Its data are kept.

    It refuses while requests wait for an answer."""
    from infra.tasks import remove

    remove.remove(settings(), name, delete_data, force)
