"""Child processes: started with their own log, waited for with a limit, stopped with all that they started, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
    """The port of last time if it is still free, so that addresses survive a restart."""
    if old is None:
        return None
    port = int(old.address.split("://")[-1].split("/")[0].rpartition(":")[2])
    return port if is_free(port) else None


def _opener(keys: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    """Never through a proxy."""
    tls = [] if keys is None else [urllib.request.HTTPSHandler(context=keys)]
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), *tls)


def page_answers(url: str, keys: ssl.SSLContext | None = None) -> bool:
    """Whether a page of ours, on loopback, answers 200. keys: what is shown to a server that asks for them."""
    opener = _opener(keys)
    try:
        with opener.open(url, timeout=2) as found:
            return bool(found.status == 200)
    except OSError:
        return False


def json_of(url: str, keys: ssl.SSLContext | None = None) -> dict[str, Any] | None:
    """What a server of ours on loopback answers, as JSON; None where it does not."""
    opener = _opener(keys)
    try:
        with opener.open(url, timeout=5) as found:
            answer: dict[str, Any] = json.load(found)
            return answer
    except (OSError, ValueError):
        return None


def start(
    name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, address: str = "", cwd: Path | None = None
) -> Started:
    """In a session of its own, so that a Ctrl-C of the terminal reaches only us and we decide the order of stopping."""
    log = log.resolve()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=cwd,
            env={**os.environ, **(env or {}), LOG: str(log)},
        )  # fmt: skip
    _children[process.pid] = process
    return Started(name, process.pid, birth(process.pid) or "", str(log), address)


_children: dict[int, subprocess.Popen[bytes]] = {}  # reaped when they end, so that no zombie stays


def wait_until(
    ready: Callable[[], bool], started: Started, limit_s: float, tick: Callable[[float], None] = lambda s: None
) -> float:
    """Seconds until `ready`. Raises ProcessFailed with the log's last lines when it ends or the limit passes."""
    begun = time.perf_counter()
    while True:
        elapsed = time.perf_counter() - begun
        tick(elapsed)
        if not is_running(started):
            raise ProcessFailed(f"{started.name} ended while it started. {log_tail(Path(started.log))}")
        if ready():
            return time.perf_counter() - begun
        if elapsed > limit_s:
            raise ProcessFailed(f"{started.name} was not ready in {limit_s:.0f} s. {log_tail(Path(started.log))}")
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
    """SIGTERM, then after the limit SIGKILL: to it, and to what it started and left behind, also where it was killed before."""
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
    """SIGTERM to each of the pids, then after the limit SIGKILL to those that still run."""
    until = time.perf_counter() + limit_s
    for pid in running():
        _signal(pid, signal.SIGTERM)
    while (left := list(running())) and time.perf_counter() < until:
        time.sleep(0.1)
    for pid in left:
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
