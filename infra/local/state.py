"""What runs: one JSON file, written whole. Only processes in it are ever stopped."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from infra.local.processes import Started
from schemas.errors import Stop


class NotUp(Stop):
    code = "not-up"


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
    file = run_folder / "state.json"
    if not file.exists():
        return State()
    found = json.loads(file.read_text())
    started = [Started(**process) for process in found["processes"]]
    return State(found["bootstrap"], found["registry"], found.get("mlflow", ""), found.get("redis", ""), started)


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
