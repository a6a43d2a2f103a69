"""Adds a task to the text of a `millrace.toml`, and takes one out. All else stays as its author wrote it, comments included."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit

from schemas.declared import declaration_file
from schemas.declared.declarations import BadDeclaration

A_HEADER = re.compile(r"\s*\[")


def with_task(text: str, file: Path, name: str, table: Mapping[str, Any]) -> str:
    """The text with one more task at its end. file: named in errors. Raises BadDeclaration for a text that is wrong already, and for a
    table that is."""
    declaration_file.parse(text, file)
    lines = [f"{key} = {tomlkit.item(value).as_string()}" for key, value in table.items()]
    entry = "\n".join([f"[tasks.{name}]", *lines, ""])
    changed = f"{text.rstrip()}\n\n{entry}" if text.strip() else entry
    try:
        tomlkit.parse(changed)
    except tomlkit.exceptions.ParseError as error:
        raise BadDeclaration(
            f"{file} has its tasks in a form to which none can be added. Write each as a table, [tasks.NAME], and run the command again"
        ) from error
    declaration_file.parse(changed, file)
    return changed


def without_task(text: str, file: Path, name: str) -> str:
    """The text without a task. Comments right above the next table belong to that table. Raises BadDeclaration."""
    kept, inside, waiting = [], False, list[str]()
    for line in text.splitlines(keepends=True):
        if A_HEADER.match(line):
            inside = _is_of(line, name)
        if not inside:
            kept += [*waiting, line]
            waiting = []
        elif line.strip() and not line.lstrip().startswith("#"):
            waiting = []  # comments inside of the task go with it
        else:
            waiting.append(line)
    changed = "".join([*kept, *waiting])
    if inside:  # it was the last one: the blank line above it goes too
        changed = f"{changed.rstrip()}\n" if changed.strip() else ""
    if _tasks(changed) != {key: value for key, value in _tasks(text).items() if key != name}:
        raise BadDeclaration(
            f"{file} declares {name} in a form that this command cannot take out: delete it by hand, then `./millrace up`"
        )
    return changed


def _is_of(header: str, name: str) -> bool:
    return re.match(rf"\s*\[\s*tasks\s*\.\s*[\"']?{re.escape(name)}[\"']?\s*[.\]]", header) is not None


def _tasks(text: str) -> Mapping[str, Any]:
    tasks: Mapping[str, Any] = tomlkit.parse(text).unwrap().get("tasks", {})
    return tasks
