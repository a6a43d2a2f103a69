"""`./millrace --help`: commands in groups, each with one line; every command and option says what it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from infra.cli.main import app

GROUPS = ("Start and stop", "Ask and watch", "Models and training", "Features", "Look inside", "Develop")


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command below this one, by its words."""
    for word, inner in getattr(command, "commands", {}).items():
        yield f"{name} {word}", inner
        yield from commands(inner, f"{name} {word}")


def test_help_lists_each_command_on_one_line_of_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, ["--help"]).output
    places = [shown.index(f"─ {group} ─") for group in GROUPS]
    assert places == sorted(places)
    rows = [line for line in shown[places[0] :].splitlines() if line.startswith("│")]
    assert len(rows) == len(get_command(app).commands), "a row per command: no text is wrapped"  # type: ignore[attr-defined]
    assert "─ Commands ─" not in shown, "each command names its group"


def test_every_command_and_option_has_a_help_text() -> None:
    silent = []
    for name, command in commands(get_command(app), "./millrace"):
        if not command.help:
            silent.append(name)
        silent += [f"{name} {param.name}" for param in command.params if param.name != "help" and not getattr(param, "help", "")]
    assert silent == []
