"""`./millrace check` and `fix`: the project's own gates, each with its name and time. Only `fix` changes files."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from infra import console
from infra.monitor import page_checks
from infra.settings import ROOT

PACKAGES = ("schemas", "streams", "processors", "inference_workers", "feature_jobs", "training_triggers", "infra", "tests")

GENERATORS = (
    ("schemas.generate",),
    ("infra.monitor.grafana",),
    ("infra.monitor.typescript_types",),
    ("infra.monitor.page_checks", "fix"),
)


def _tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _gates() -> list[tuple[str, list[str]]]:
    return [
        ("format", [_tool("ruff"), "format", "--check", "--diff", "--quiet", "."]),
        ("lint", [_tool("ruff"), "check", "--quiet", "."]),
        ("types", [_tool("mypy"), *PACKAGES]),
        ("import order", [_tool("lint-imports"), "--no-cache"]),
        ("generated files", [sys.executable, "-m", "schemas.generate", "--check"]),
        ("dashboard", [sys.executable, "-m", "infra.monitor.grafana", "--check"]),
        ("types of the pages' answers", [sys.executable, "-m", "infra.monitor.typescript_types", "--check"]),
        *(
            (
                f"pages: {name}",
                [sys.executable, "-m", "infra.monitor.page_checks", name],
            )  # on Node; if Node is missing, the check prints how to install it
            for name in page_checks.CHECKS
        ),
    ]


def check() -> int:
    """0 if every check passes. All of them run, so that one call reports every problem."""
    failed = []
    for name, command in _gates():
        begun = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        mark = "[green]✓[/]" if done.returncode == 0 else "[red]✗[/]"
        console.out.print(f"  {mark} {name:<28}[dim]{time.perf_counter() - begun:5.1f} s[/]")
        if done.returncode != 0:
            failed.append(name)
            print((done.stdout + done.stderr).rstrip())
    if failed:
        console.out.print(f"[red]failed[/]: {', '.join(failed)}. `./millrace fix` repairs format, some lint and generated files")
    return 1 if failed else 0


def fix() -> int:
    for command in ([_tool("ruff"), "check", "--fix", "--quiet", "."], [_tool("ruff"), "format", "--quiet", "."]):
        subprocess.run(command, cwd=ROOT, check=False)
    codes = [subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=False).returncode for words in GENERATORS]
    return max(codes)
