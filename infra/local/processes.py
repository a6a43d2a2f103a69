"""Child processes: each has its own log, is waited for with a limit, and is stopped with everything that it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from infra.local.started import LOG, Started, birth, remains
from schemas.errors import Stop

LOG_TAIL_LINES = 15


class ProcessFailed(Stop):
    code = "process-failed"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def port_of(old: Started | None) -> int | None:
    """The port of an earlier start if it is still free, so that addresses survive a restart."""
    if old is None:
        return None
    port = int(old.address.split("://")[-1].split("/")[0].rpartition(":")[2])
    return port if is_free(port) else None


def start(
    name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, address: str = "", cwd: Path | None = None
) -> Started:
    """Start a process in a session of its own: a Ctrl-C at the terminal reaches only this command, which decides the order of stopping."""
    log = log.resolve()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd=cwd,
            env={**os.environ, **(env or {}), LOG: str(log)},
        )
    _children[process.pid] = process
    return Started(name, process.pid, birth(process.pid) or "", str(log), address)


_children: dict[int, subprocess.Popen[bytes]] = {}  # reaped when they end, so that no zombie stays


def start_kept(run_folder: Path, name: str, command: Sequence[str], env: Mapping[str, str], address: str = "") -> Started:
    """Start a process under a keeper, which starts it again whenever it ends."""
    keeper = [sys.executable, "-m", "infra.local.keeper", name, *command]
    return start(name, keeper, run_folder / "logs" / f"{name}.log", env, address)


def wait_until(ready: Callable[[], bool], started: Started, limit_s: float) -> float:
    """Seconds until `ready`. Raises ProcessFailed with the log's last lines if the process ends or the limit passes."""
    begun = time.perf_counter()
    while True:
        elapsed = time.perf_counter() - begun
        if not is_running(started):
            raise ProcessFailed(f"{started.name} ended during its start. {log_tail(Path(started.log))}")
        if ready():
            return time.perf_counter() - begun
        if elapsed > limit_s:
            raise ProcessFailed(f"{started.name} was not ready after {limit_s:.0f} s. {log_tail(Path(started.log))}")
        time.sleep(0.1)


def is_running(started: Started) -> bool:
    child = _children.get(started.pid)
    if child is not None and child.poll() is not None:
        return False
    return started.alive()


def log_tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    if not log.exists() or not log.stat().st_size:
        return f"Its log {log} is empty."
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        tail = file.read().decode(errors="replace").splitlines()[-lines:]
    return f"The last lines of {log}:\n  " + "\n  ".join(tail)


def stop(started: Started, limit_s: float = 15.0) -> None:
    """SIGTERM, and after the limit SIGKILL, to the process and to everything that it started, even if it has ended itself."""
    until = time.perf_counter() + limit_s
    if started.alive():
        _signal(started.pid, signal.SIGTERM)
        while time.perf_counter() < until and is_running(started):
            time.sleep(0.05)
        if started.alive():
            _signal_group(started.pid, signal.SIGKILL)
    _reap(started.pid)
    stop_all(lambda: remains(started), until - time.perf_counter())


def stop_all(running: Callable[[], Iterable[int]], limit_s: float) -> None:
    """SIGTERM to each of the pids, and after the limit SIGKILL to those that still run."""
    until = time.perf_counter() + limit_s
    for pid in running():
        _signal(pid, signal.SIGTERM)
    while (remaining := list(running())) and time.perf_counter() < until:
        time.sleep(0.1)
    for pid in remaining:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _reap(pid: int) -> None:
    child = _children.pop(pid, None)
    if child is not None:
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            _children[pid] = child
