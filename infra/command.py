"""What commands share: the settings, another package's commands, and their usual options."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Annotated

import typer

from infra.settings import ROOT, StackSettings
from streams.settings import load

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
Monitored = Annotated[bool, typer.Option("--monitor/--no-monitor", help="Start the stream monitor too.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]


def settings() -> StackSettings:
    return load(StackSettings, os.environ)


def with_monitor(wanted: bool) -> StackSettings:
    """The settings, without a monitor where the command says so."""
    found = settings()
    return found if wanted else replace(found, monitor=False)


def python(*arguments: str, **env: str) -> int:
    """Run a command of another package: they are never imported here."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env={**os.environ, **env}, check=False).returncode
