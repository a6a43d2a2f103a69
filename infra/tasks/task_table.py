"""The tasks and the kinds of task as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra import console
from infra import declared as files
from infra.behind import lags
from infra.local import run_state
from infra.settings import StackSettings
from schemas import catalogue
from schemas.declared.declarations import Declaration
from schemas.declared.task_kinds import KINDS
from schemas.topic_kinds import Consumption
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.terminal_text import as_json as json_line


def show(settings: StackSettings, as_json: bool) -> None:
    rows = _rows(settings)
    if as_json:
        for row in rows:
            print(json_line(row), flush=True)
        return
    console.table(
        "tasks",
        ("task", "kind", "model", "state", "waiting", "requests", "results"),
        [tuple("" if value is None else str(value) for value in row.values()) for row in rows],
        right=("waiting",),
    )


def _rows(settings: StackSettings) -> list[dict[str, Any]]:
    declared, in_force = files.declared(settings, code_is_there=False), files.in_force(settings)
    running = run_state.read(settings.run_folder)
    known = {**{task.name: task for task in in_force}, **{task.name: task for task in declared}}
    alive = {loop for process in running.processes if process.alive() for loop in run_state.loops_of(process.name)}
    tasks = catalogue.with_declared(known.values()).tasks
    left = waiting(running, [t for t in tasks if t.group not in known or known[t.group] in in_force]) if running.up else {}
    rows = []
    for task in tasks:
        declaration = known.get(task.group)
        rows.append(
            {
                "task": task.group,
                "kind": "shipped" if declaration is None else declaration.kind or f"code {declaration.code}",
                "model": None if declaration is None else declaration.model,
                "state": _state(task.group, alive, declaration, declared, in_force),
                "waiting": left.get(task.group),
                "requests": task.topic.name,
                "results": task.results.name if task.results else "",
            }
        )
    return rows


def _state(
    name: str, alive: set[str], declaration: Declaration | None, declared: Sequence[Declaration], in_force: Sequence[Declaration]
) -> str:
    if declaration is not None and declaration not in declared:
        return "no longer declared: `./millrace up` stops it"
    if declaration is not None and declaration not in in_force:
        return "changed or new: `./millrace up` starts it"
    return "running" if any(loop.rpartition("-")[0] == name for loop in alive) else "not running"


def waiting(running: run_state.State, tasks: Sequence[Consumption]) -> dict[str, int]:
    """By task: requests that its group has not taken yet, on its topic and its retry topics."""
    address = KafkaAddress(bootstrap=running.bootstrap)
    admin = KafkaAdmin(address)
    partitions = admin.partitions()
    places = {
        task.group: [(name, n) for name in (task.topic.name, *task.retry_topics()) for n in range(partitions.get(name, 0))]
        for task in tasks
    }
    every = [place for of_task in places.values() for place in of_task]
    behind, ends, firsts = lags(address, places, every), admin.ends(every), admin.firsts(every)
    return {
        name: sum(behind[name].get(place, ends[place] - firsts[place]) for place in of_task) for name, of_task in places.items()
    }


def show_kinds(as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "kind": str(kind),
            "request": of.request.RECORD,
            "result": of.result.RECORD,
            "options": {name: option.help for name, option in of.options.items()},
        }
        for kind, of in KINDS.items()
    ]
    if as_json:
        for row in rows:
            print(json_line(row), flush=True)
        return
    table = [
        (row["kind"], row["request"], row["result"], "\n".join(f"{name}: {help_}" for name, help_ in row["options"].items()))
        for row in rows
    ]
    console.table("kinds of task", ("kind", "request", "result", "options"), table)
