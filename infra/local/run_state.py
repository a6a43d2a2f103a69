"""What runs: one JSON file, written whole, and a lock for those who change it. Only what we started is ever stopped."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.started import Started, birth_of_time
from schemas.errors import Stop


class NotUp(Stop):
    code = "not-up"


class StateUnreadable(Stop):
    code = "state-unreadable"


@dataclass
class State:
    """bootstrap, registry, mlflow, redis: addresses, of servers of ours or of others; the last two may be empty. processes:
    what we started, in order."""

    bootstrap: str = ""
    registry: str = ""
    mlflow: str = ""
    redis: str = ""
    processes: list[Started] = field(default_factory=list)

    @property
    def up(self) -> bool:
        return bool(self.bootstrap and self.registry) and all(
            p.alive() for p in self.processes if p.name in ("kafka", "registry")
        )

    def put(self, started: Started) -> None:
        """In place of an earlier process of that name."""
        self.processes = [process for process in self.processes if process.name != started.name] + [started]

    def find(self, name: str) -> Started | None:
        return next((process for process in self.processes if process.name == name), None)


def loops_of(process: str) -> list[str]:
    """Names of the loops that a process runs: `a:2+b-0` runs `a-0` and `b-0`; a server is its own."""
    names, _, slot = process.rpartition("-")
    return [f"{part.partition(':')[0]}-{slot}" for part in names.split("+")] if names else [process]


def read(run_folder: Path) -> State:
    """Raises StateUnreadable where the file is not what `write` writes."""
    file = run_folder / "state.json"
    try:
        held = json.loads(file.read_text())
        started = [_started(process) for process in held["processes"]]
        addresses = {name: str(held.get(name, "")) for name in ("bootstrap", "registry", "mlflow", "redis")}
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateUnreadable(
            f"{file} cannot be read ({type(error).__name__}: {error}): `./millrace down` stops what runs, then remove this file"
        ) from error
    return State(**addresses, processes=started)


def _started(held: dict[str, Any]) -> Started:
    """An earlier version wrote the time of a process's start by the clock."""
    if isinstance(held["born"], int | float):
        held = {**held, "born": birth_of_time(held["pid"], held["born"])}
    found = Started(**held)
    if not (isinstance(found.pid, int) and all(isinstance(t, str) for t in (found.name, found.born, found.log, found.address))):
        raise TypeError(f"no process of ours: {held}")
    return found


def write(run_folder: Path, state: State) -> None:
    run_folder.mkdir(parents=True, exist_ok=True)
    body = {
        "bootstrap": state.bootstrap, "registry": state.registry, "mlflow": state.mlflow, "redis": state.redis,
        "processes": [p.as_dict() for p in state.processes],
    }  # fmt: skip
    staging = run_folder / "state.json.part"
    staging.write_text(json.dumps(body, indent=2) + "\n")
    os.replace(staging, run_folder / "state.json")


def require(run_folder: Path) -> State:
    """Raises NotUp with the command that mends it."""
    state = read(run_folder)
    if not state.up:
        raise NotUp("the stack is not up: start it with `./millrace up`")
    return state


@contextmanager
def locked(run_folder: Path) -> Iterator[None]:
    """For all who start or stop: one at a time, the others wait and say so. Freed by the system when its holder dies."""
    run_folder.mkdir(parents=True, exist_ok=True)
    path = run_folder / "lock"
    while True:
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("another ./millrace starts or stops this stack: waiting until it is done", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(path, file.fileno()):
                yield
                return
        run_folder.mkdir(parents=True, exist_ok=True)  # `clean` removed it while we waited


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
