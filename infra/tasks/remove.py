"""Stops a declared task and takes it out of `millrace.toml`; deletes its data only on request."""

from __future__ import annotations

import os
from pathlib import Path

import tomlkit

from infra import console
from infra import declared as files
from infra.local import loop_processes, run_state
from infra.settings import StackSettings
from infra.tasks.task_table import waiting
from schemas.declared.declaration_file import name_problem
from schemas.declared.declarations import BadDeclaration, Declaration
from schemas.declared.task_kinds import TaskKind
from schemas.errors import BadSettings, Stop
from schemas.topic_kinds import Consumption
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry


class RequestsWait(Stop):
    code = "requests-wait"


def remove(settings: StackSettings, name: str, delete_data: bool, force: bool) -> None:
    """Raises BadDeclaration if it is not declared, RequestsWait if requests wait and `force` is not given."""
    file = Path(settings.declarations)
    declared, in_force = files.declared(settings), files.in_force(settings)
    known = {**{task.name: task for task in in_force}, **{task.name: task for task in declared}}
    if name not in known and delete_data and not name_problem(name):
        _delete(run_state.require(settings.run_folder), _topics_of(name))  # it was removed before, and its data were kept
        console.out.print(f"topics and schemas of {name} were deleted")
        return
    if name not in known:
        raise BadDeclaration(f"no declared task is called {name!r}; declared are {', '.join(known) or 'none'}")
    running = run_state.read(settings.run_folder)
    task = known[name].consumption()
    if running.up and name in [t.name for t in in_force]:
        left = waiting(running, task)
        if left and not force:
            raise RequestsWait(f"{left} requests of {name} wait for an answer. Let its worker answer them, or add --force")
    elif delete_data:
        raise BadSettings("--delete-data needs the running stack: `./millrace up` first")
    with run_state.locked(settings.run_folder):
        loop_processes.stop_workers(settings, running, [name])
        files.follow(settings, [task for task in in_force if task.name != name])
    if name in [task.name for task in declared]:
        document = tomlkit.parse(file.read_text())
        del document["tasks"][name]
        staging = file.with_suffix(".toml.part")
        staging.write_text(tomlkit.dumps(document))
        os.replace(staging, file)
    if delete_data:
        _delete(running, task)
        console.out.print(f"{name} was removed, with its topics and schemas")
    else:
        console.out.print(f"{name} was removed; its topics are kept")


def _topics_of(name: str) -> Consumption:
    """The topics of a task whose kind is not known any more: their names follow from its name."""
    return Declaration(name=name, kind=TaskKind.TEXT_CLASSIFICATION).consumption()


def _delete(running: run_state.State, task: Consumption) -> None:
    assert task.results is not None
    admin = KafkaAdmin(KafkaAddress(bootstrap=running.bootstrap))
    names = [task.topic.name, task.results.name, *task.retry_topics(), task.dead_letter_topic]
    admin.delete([name for name in names if name in admin.partitions()])
    Registry(running.registry).delete_subjects([task.topic.subject, task.results.subject])
