"""What commands share: the settings, another package's commands, and their usual options."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer

from infra.run_module import INTERRUPTED
from infra.settings import ROOT, StackSettings
from schemas.errors import BrokerUnavailable, InvalidRequest
from streams.process.settings import load

LEAVE_LIMIT_S = 10.0  # after Ctrl-C
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
Monitored = Annotated[bool, typer.Option("--monitor/--no-monitor", help="Start the stream monitor too.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]


def within(above: float, most: float) -> Callable[[float], float]:
    """Of an option that is a number: a check that it is above one bound and at most the other. A bound of typer's lets nan pass."""

    def check(value: float) -> float:
        if not above < value <= most:
            raise typer.BadParameter(f"{value} is not above {above:g} and at most {most:g}")
        return value

    return check


def settings() -> StackSettings:
    return load(StackSettings, os.environ)


def with_monitor(wanted: bool) -> StackSettings:
    """The settings, without a monitor where the command says so."""
    found = settings()
    return found if wanted else replace(found, monitor=False)


def python(module: str, *arguments: str, **env: str) -> int:
    """Run a command of another package, and wait for it: they are never imported here. Ctrl-C, whoever it was sent to, ends both."""
    command = [sys.executable, "-m", "infra.run_module", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **env}) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            return _interrupted(child)


def _interrupted(child: subprocess.Popen[bytes]) -> int:
    try:
        child.wait(LEAVE_LIMIT_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
    return INTERRUPTED


def asked(*words: str, limit_s: float, **env: str) -> list[dict[str, Any]]:
    """What a command of another package prints with --json, an object a line. Raises InvalidRequest with its last words where it failed
    and printed none, BrokerUnavailable where it is not done in limit_s."""
    end = words.index("--") if "--" in words else len(words)
    command = [sys.executable, "-m", *words[:end], "--json", *words[end:]]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BrokerUnavailable(f"no answer in {limit_s:.0f} s") from error
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode and not found:
        raise InvalidRequest((done.stderr.strip().splitlines() or ["it failed without a word"])[-1])
    return found
