"""`./millrace test`: the checks, and all tests in two lanes side by side.

One lane has the stories that keep both cores busy, one after the other; so no two of them meet. The other lane has the checks and all
other tests, which mostly wait for servers.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import IO

from infra import console
from infra.cli import checks
from infra.local import stack
from infra.settings import ROOT, StackSettings

BUSY = (
    "tests/integration/flink",
    "tests/integration/test_hostile_topics.py",
    "tests/integration/test_model_registry.py",
    "tests/integration/test_recipes.py",
    "tests/integration/test_retraining.py",
    "tests/training",
)
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")
LEAVE_LIMIT_S = 60.0  # how long pytest may take to stop its servers after Ctrl-C


def test(settings: StackSettings, arguments: list[str]) -> int:
    """Run everything, or pytest with these arguments alone. 0 if all checks and tests passed. Tests whose data is missing are skipped
    and listed in the summary of their lane."""
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    console.out.print(f"unit, contract, property, integration and chaos tests; {free_gb:.0f} GB of disk free")
    stack.fetch(settings, with_features=True, with_connect=True)
    env = {**os.environ, "MILLRACE_HOME": settings.home, "MILLRACE_DATA": settings.data}
    if arguments:
        return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=env, check=False).returncode
    with tempfile.TemporaryFile() as output:
        busy = subprocess.Popen([*PYTEST, *BUSY], cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT)
        try:
            codes = [checks.check(), _others(env)]
            console.out.print("\n[bold]the other lane: stories that keep both cores busy[/]")
            codes.append(_followed(busy, output))
        except BaseException:
            _stop(busy)
            raise
    return next((code for code in codes if code), 0)


def _others(env: Mapping[str, str]) -> int:
    ignored = [f"--ignore={path}" for path in BUSY]
    return subprocess.run([*PYTEST, *ignored], cwd=ROOT, env=env, check=False).returncode


def _followed(lane: subprocess.Popen[bytes], output: IO[bytes]) -> int:
    """Print what the lane has written, and what it still writes, until it ends. Returns its exit code."""
    at = 0
    while True:
        code = lane.poll()
        written = os.pread(output.fileno(), 1 << 24, at)
        at += len(written)
        sys.stdout.buffer.write(written)
        sys.stdout.flush()
        if code is not None and not written:
            return code
        time.sleep(0.5)


def _stop(lane: subprocess.Popen[bytes]) -> None:
    """Let pytest stop the servers of its tests."""
    if lane.poll() is None:
        lane.send_signal(signal.SIGINT)
        try:
            lane.wait(LEAVE_LIMIT_S)
        except subprocess.TimeoutExpired:
            lane.kill()
