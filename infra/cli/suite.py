"""`./millrace test`: all checks, and all tests in two lanes side by side (`tests/support/lanes.py`). With arguments: pytest alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra import console
from infra.local import stack
from infra.run_module import ENDINGS, INTERRUPTED, interrupt
from infra.settings import ROOT, StackSettings

LANES = ("heavy", "light")
CHECKS = "checks"
LEAVE_LIMIT_S = 120.0  # how long the lanes may take to stop their servers


def test(settings: StackSettings, arguments: list[str]) -> int:
    """0 if every check and every test passed. Tests whose data is missing are skipped and listed in the summary."""
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    console.out.print(f"unit, contract, property, integration and chaos tests; {free_gb:.0f} GB of disk free")
    stack.fetch(settings, with_features=True, with_connect=True)
    env = {**os.environ, "MILLRACE_HOME": settings.home, "MILLRACE_DATA": settings.data}
    if arguments:
        return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=env, check=False).returncode
    with tempfile.TemporaryDirectory(prefix="millrace-lanes-") as folder:
        taken = Path(folder) / "taken"
        taken.mkdir()
        lane = [sys.executable, "-m", "infra.run_module", "tests.support.lanes"]
        commands = {CHECKS: [sys.executable, "-m", "infra", "check"]}
        commands |= {name: [*lane, name, str(taken)] for name in LANES}
        return beside(commands, Path(folder), env)


@dataclass
class Part:
    """A process and what it prints. took_s: None while it runs."""

    name: str
    process: subprocess.Popen[bytes]
    report: Path
    begun_s: float
    took_s: float | None = None

    def runs(self) -> bool:
        if self.took_s is None and self.process.poll() is not None:
            self.took_s = time.monotonic() - self.begun_s
        return self.took_s is None

    def summary(self) -> str:
        lines = self.report.read_text(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "printed nothing")


def beside(commands: Mapping[str, Sequence[str]], folder: Path, env: Mapping[str, str]) -> int:
    """Run the commands side by side; print what each of them printed, and one line for each. Returns the first exit code that is not 0,
    or that of an interrupt: Ctrl-C, SIGTERM and a closed terminal end all of them, and this waits until they have."""
    before = {number: signal.signal(number, interrupt) for number in ENDINGS}
    parts: list[Part] = []
    code = 0
    try:
        for name, command in commands.items():
            parts.append(_start(name, command, folder, env))
        while [part for part in parts if part.runs()]:
            time.sleep(0.2)
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        _end(parts)
        for number, handler in before.items():
            signal.signal(number, handler)
    _print(parts)
    return code or next((part.process.returncode for part in parts if part.process.returncode), 0)


def _start(name: str, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Part:
    """In a process group of its own: so a Ctrl-C arrives once, from here, and does not interrupt the cleaning up that it began."""
    report = folder / f"{name}.txt"
    with report.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT if name == CHECKS else None,  # a lane's standard error says how far it is
            process_group=0,
        )
    if name == CHECKS:  # they need a core for a minute: they get what the tests leave
        os.setpriority(os.PRIO_PROCESS, process.pid, 19)
    return Part(name, process, report, time.monotonic())


def _end(parts: Sequence[Part]) -> None:
    """Nothing to do where all have ended. Otherwise a SIGINT, and after the limit SIGKILL to a process and all its children."""
    running = [part for part in parts if part.runs()]
    for part in running:
        os.killpg(part.process.pid, signal.SIGINT)
    end_s = time.monotonic() + LEAVE_LIMIT_S
    while [part for part in running if part.runs()] and time.monotonic() < end_s:
        time.sleep(0.2)
    for part in (part for part in running if part.runs()):
        with suppress(psutil.Error):
            for child in psutil.Process(part.process.pid).children(recursive=True):
                child.kill()
        part.process.kill()
        part.process.wait()
        part.runs()


def _print(parts: Sequence[Part]) -> None:
    for part in parts:
        console.out.print(f"\n[bold]{part.name}[/]")
        sys.stdout.write(part.report.read_text(errors="replace"))
    sys.stdout.write("\n")
    for part in parts:
        mark = "[green]✓[/]" if part.process.returncode == 0 else "[red]✗[/]"
        console.out.print(f"  {mark} {part.name:<8}{console.escape(part.summary()):<72}[dim]{part.took_s or 0:8.1f} s[/]")
    sys.stdout.flush()
