"""The local stack as a person runs it: up, a worker dies and comes back, down stops what up started, data stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.local import processes, run_state, started
from infra.local.started import Started
from infra.settings import ROOT, StackSettings
from streams.process.settings import load

pytestmark = pytest.mark.real


def test_up_survives_a_killed_worker_and_down_keeps_the_data(tmp_path: Path) -> None:
    kept = load(StackSettings, os.environ).home_folder.resolve()
    (kept / "monitor").mkdir(parents=True, exist_ok=True)
    for name in ("jars", "monitor"):
        (tmp_path / name).symlink_to(kept / name)
    env = {**os.environ, "MILLRACE_HOME": str(tmp_path), "MILLRACE_PROCESSES": "moderation"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infra", *words]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=540, check=False)

    def status() -> dict[str, dict[str, Any]]:
        found = json.loads(run("status", "--json").stdout)
        return {process["process"]: process for process in found["processes"]}

    try:
        up = run("up")
        assert up.returncode == 0, up.stdout + up.stderr
        first = status()
        assert {name for name, process in first.items() if process["state"] == "running"} == {
            "kafka",
            "registry",
            "moderation-0",
            "monitor",
        }
        assert run("send", "moderation", "--text", "hello").returncode == 0

        (worker,) = psutil.Process(first["moderation-0"]["pid"]).children()
        worker.send_signal(signal.SIGKILL)
        until = time.perf_counter() + 40
        while run("send", "moderation", "--text", "hello again", "--deadline-ms", "3000").returncode != 0:
            assert time.perf_counter() < until, run("logs", "moderation-0").stdout

        assert "stopped: kafka, registry, moderation-0, monitor" in run("down").stdout
        assert not any(_runs(process["pid"]) for process in first.values())
        assert run("doctor").returncode == 1

        command = [sys.executable, "-m", "infra", "up"]
        beside = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert run("up").returncode == 0
        assert beside.wait(540) == 0
        again = status()
        ours = started.of_folder(tmp_path / "run")
        assert started.strays(tmp_path / "run", run_state.read(tmp_path / "run").processes) == {}, (
            "two at once start everything once"
        )
        assert again["kafka"]["address"] == first["kafka"]["address"]
        table = {row["topic"]: row for row in map(json.loads, run("topics", "--json").stdout.splitlines())}
        assert table["content-v1"]["offsets"] >= 2
        assert run("doctor").returncode == 0

        os.kill(again["moderation-0"]["pid"], signal.SIGKILL)
        assert run("clean", "--yes").returncode == 1, "it runs"
        assert "moderation-0" in run("down").stdout
        assert not any(_runs(pid) for pid in ours)
        assert run("clean", "--yes").returncode == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["jars", "monitor"], "they were there before"
    finally:
        run("down")


def _runs(pid: int) -> bool:
    """A zombie whose parent has not looked yet does not run."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_process_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    started = processes.start("doomed", [sys.executable, "-c", "print('no such thing'); raise SystemExit(1)"], tmp_path / "log")
    with pytest.raises(processes.ProcessFailed, match="no such thing"):
        processes.wait_until(lambda: False, started, 10)


def test_a_process_that_is_never_ready_is_given_up_at_the_limit(tmp_path: Path) -> None:
    started = processes.start("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
    with pytest.raises(processes.ProcessFailed, match="not ready after 1 s"):
        processes.wait_until(lambda: False, started, 1)
    processes.stop(started)
    assert not started.alive()


def test_a_pid_that_now_belongs_to_another_is_never_stopped(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        processes.stop(Started("ours", other.pid, born="another boot/1", log=str(tmp_path / "log")))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(30)
