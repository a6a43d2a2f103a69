"""The processes that this home started: one JSON file, replaced as a whole, and a lock for commands that change it. No other
process is ever stopped."""

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
    """bootstrap, registry, mlflow, redis: addresses of servers, whether started here or not; the last two may be empty.
    processes: those started here, in order."""

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
        """Replaces an earlier process of that name."""
        self.processes = [process for process in self.processes if process.name != started.name] + [started]

    def get(self, name: str) -> Started:
        """A process that was put here before."""
        return next(process for process in self.processes if process.name == name)

    def find(self, name: str) -> Started | None:
        return next((process for process in self.processes if process.name == name), None)


def loops_of(process: str) -> list[str]:
    """Names of the loops of a process: `a:2+b-0` runs `a-0` and `b-0`; a server has its own name only."""
    names, _, slot = process.rpartition("-")
    return [f"{part.partition(':')[0]}-{slot}" for part in names.split("+")] if names else [process]


def read(run_folder: Path) -> State:
    """An empty state if there is no file. Raises StateUnreadable if `write` cannot have written it."""
    file = run_folder / "state.json"
    try:
        content = json.loads(file.read_text())
        started = [_started(process) for process in content["processes"]]
        addresses = {name: str(content.get(name, "")) for name in ("bootstrap", "registry", "mlflow", "redis")}
    except FileNotFoundError:
        return State()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateUnreadable(
            f"{file} cannot be read ({type(error).__name__}: {error}). Stop what runs with `./millrace down`, then delete this file"
        ) from error
    return State(**addresses, processes=started)


def _started(fields: dict[str, Any]) -> Started:
    """Earlier versions wrote `born` as a clock time. Raises TypeError if a field has the wrong type."""
    if isinstance(fields["born"], int | float):
        fields = {**fields, "born": birth_of_time(fields["pid"], fields["born"])}
    started = Started(**fields)
    texts = (started.name, started.born, started.log, started.address)
    if not (isinstance(started.pid, int) and all(isinstance(text, str) for text in texts)):
        raise TypeError(f"not a process of this file's format: {fields}")
    return started


def write(run_folder: Path, state: State) -> None:
    run_folder.mkdir(parents=True, exist_ok=True)
    body = {
        "bootstrap": state.bootstrap,
        "registry": state.registry,
        "mlflow": state.mlflow,
        "redis": state.redis,
        "processes": [p.as_dict() for p in state.processes],
    }
    staging = run_folder / "state.json.part"
    staging.write_text(json.dumps(body, indent=2) + "\n")
    os.replace(staging, run_folder / "state.json")


def require(run_folder: Path) -> State:
    """The state of a running stack. Raises NotUp."""
    state = read(run_folder)
    if not state.up:
        raise NotUp("the stack is not running: `./millrace up` starts it")
    return state


@contextmanager
def locked(run_folder: Path) -> Iterator[None]:
    """Held by a command that starts or stops processes: one at a time, the others print that they wait. The system frees it
    when its holder dies."""
    run_folder.mkdir(parents=True, exist_ok=True)
    path = run_folder / "lock"
    while True:
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("another ./millrace command is starting or stopping this stack: waiting for it to finish", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_same_file(path, file.fileno()):
                yield
                return
        run_folder.mkdir(parents=True, exist_ok=True)  # `clean` may have removed it in the meantime


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
