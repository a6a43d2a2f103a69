"""`./millrace up --with …` for tests and benchmarks: a folder of its own, with the archives and environments of this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from infra.local import run_state
from infra.settings import ROOT, StackSettings
from schemas.catalogue import topic as topic_of
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import records
from streams.process.settings import load
from streams.schema_registry import Registry


class Stack:
    """`./millrace up --with …` in a folder of its own. processes: of workers and processors; none by default."""

    def __init__(self, home: Path, processes: str = "", **env: str) -> None:
        kept = load(StackSettings, os.environ).home_folder.resolve()
        for name in ("jars", "flink-env", "uv", "monitor"):
            if (kept / name).exists():
                (home / name).symlink_to(kept / name)
        self.home = home
        self.env = {
            **os.environ,
            "MILLRACE_HOME": str(home),
            "MILLRACE_PROCESSES": processes,
            "MILLRACE_ARCHIVE_FLUSH_S": "3",
            "MILLRACE_MONITOR": "false",
            **env,
        }

    def run(self, *words: str, limit_s: float = 600) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infra", *words]
        return subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=limit_s, check=False)

    def succeed(self, *words: str) -> str:
        """What it printed. Raises AssertionError if it failed."""
        done = self.run(*words)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def connect(self) -> None:
        running = run_state.read(self.home / "run")
        self.address, self.registry, self.redis = (
            KafkaAddress(bootstrap=running.bootstrap),
            Registry(running.registry),
            running.redis,
        )
        self.lake = self.home / "lake"

    def kill(self, name: str) -> None:
        self.signal(name, signal.SIGKILL)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the process that a keeper keeps, by its pid."""
        kept = run_state.read(self.home / "run").find(name)
        assert kept is not None
        until_s = time.monotonic() + 120
        while not (children := psutil.Process(kept.pid).children()) and time.monotonic() < until_s:
            time.sleep(0.1)
        children[0].send_signal(number)

    def lag(self) -> dict[str, int | None]:
        done = self.run("features", "freshness", "--json")
        assert done.returncode == 0, done.stderr
        return {step["step"]: step["lag_records"] for step in json.loads(done.stdout)["steps"]}

    def records(self, topic: str) -> list[dict[str, Any]]:
        return records(self.address, topic_of(topic), self.registry)

    def training(self, words: Sequence[str]) -> None:
        """Run a command of `training_triggers`, as a person would."""
        of = {"request": ("training", "request"), "promote": ("models", "promote")}[words[0]]
        self.succeed(*of, *words[1:])

    def log_tails(self) -> str:
        return "\n".join(self.run("logs", name).stdout[-1500:] for name in ("flink-jobs", "validate+timely-0", "taskmanager"))
