"""Shared parts of commands: settings, usual options, and running the commands of other packages, which are never imported
here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

import typer

from infra.run_module import INTERRUPTED
from infra.settings import FOLLOWED, ROOT, StackSettings
from schemas import catalogue
from schemas.errors import BadSettings, BrokerUnavailable, InvalidRequest
from streams.process.settings import load

LEAVE_LIMIT_S = 10.0  # how long a command may take to end after Ctrl-C
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
Monitored = Annotated[bool, typer.Option("--monitor/--no-monitor", help="Whether to start the monitor too.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]


def within(above: float, maximum: float) -> Callable[[float], float]:
    """A check of an option: above < value <= maximum. Typer's own bounds let nan pass."""

    def check(value: float) -> float:
        if not above < value <= maximum:
            raise typer.BadParameter(f"{value} is not greater than {above:g} and at most {maximum:g}")
        return value

    return check


def settings() -> StackSettings:
    return load(StackSettings, os.environ)


def know_declared_tasks() -> None:
    """Make this command, and those of other packages that it runs, know the declared tasks that this home's processes follow. An
    invalid setting is left to the command that needs it."""
    with suppress(BadSettings):
        catalogue.follow(settings().run_folder.resolve() / FOLLOWED)


def with_monitor(monitor: bool) -> StackSettings:
    """The settings; with --no-monitor the stack starts no monitor."""
    return settings() if monitor else replace(settings(), monitor=False)


def python(module: str, *arguments: str, **env: str) -> int:
    """Run `python -m module`, wait for it, and return its exit code. Ctrl-C ends both, whichever of them receives it."""
    command = [sys.executable, "-m", "infra.run_module", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **_tasks(module), **env}) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            return _interrupted(child)


def _tasks(module: str) -> dict[str, str]:
    """The variable that names the declared tasks, for commands of other packages. Tests and benchmarks start stacks of their own."""
    return {} if module.startswith("tests.") else {catalogue.VARIABLE: catalogue.followed()}


def _interrupted(child: subprocess.Popen[bytes]) -> int:
    try:
        child.wait(LEAVE_LIMIT_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
    return INTERRUPTED


def run_json(*words: str, limit_s: float, **env: str) -> list[dict[str, Any]]:
    """Run `python -m words --json`; returns the objects that it prints, one per line. Raises InvalidRequest with its last line
    on standard error if it failed and printed no object, BrokerUnavailable if it takes longer than limit_s."""
    end = words.index("--") if "--" in words else len(words)
    command = [sys.executable, "-m", *words[:end], "--json", *words[end:]]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **_tasks(words[0]), **env},
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokerUnavailable(f"no answer within {limit_s:.0f} s from `{' '.join(words[:2])}`") from error
    objects = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode and not objects:
        reason = f"`{' '.join(words[:2])}` ended with exit code {done.returncode} and printed no reason"
        raise InvalidRequest((done.stderr.strip().splitlines() or [reason])[-1])
    return objects
