"""Stops a declared task and takes it out of `millrace.toml`; deletes its data only on request."""

from __future__ import annotations

import shutil
from pathlib import Path

from infra import console
from infra import declared as files
from infra.local import loop_processes, run_state
from infra.settings import StackSettings
from infra.tasks.task_table import waiting
from schemas.declared.declaration_file import name_problem
from schemas.declared.declaration_text import without_task
from schemas.declared.declarations import BadDeclaration, Declaration, sink_of
from schemas.declared.task_kinds import TaskKind
from schemas.errors import Stop
from schemas.topic_kinds import Consumption, dead_letter_name
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry


class RequestsWait(Stop):
    code = "requests-wait"


def remove(settings: StackSettings, name: str, delete_data: bool, force: bool) -> None:
    """Raises BadDeclaration if it is not declared, RequestsWait if requests wait and `force` is not given, NotUp if data are to be
    deleted and the stack does not run."""
    file = Path(settings.declarations)
    with run_state.locked(settings.run_folder):
        running = run_state.require(settings.run_folder) if delete_data else run_state.read(settings.run_folder)
        declared, in_force = files.declared(settings, code_is_there=False), files.in_force(settings)
        known = dict.fromkeys(task.name for task in (*in_force, *declared))
        # A task that was removed before may have left its data.
        if name not in known and (not delete_data or name_problem(name)):
            raise BadDeclaration(f"no declared task is called {name!r}; declared are {', '.join(known) or 'none'}")
        task = _topics_of(name)
        if name not in known and not _existing(running, task):
            raise BadDeclaration(f"no declared task is called {name!r}, and there are no topics of one. Nothing was deleted")
        if name in [task.name for task in declared]:
            without_task(file.read_text(), file, name)  # raises before anything is stopped
        if running.up and name in [task.name for task in in_force] and not force:
            (left,) = waiting(running, [task]).values()
            if left:
                raise RequestsWait(f"{left} requests of {name} wait for an answer. Let its worker answer them, or add --force")
        loop_processes.stop_workers(settings, running, [name])
        files.follow(settings, [task for task in in_force if task.name != name])
        if name in [task.name for task in declared]:
            files.write(file, without_task(file.read_text(), file, name))  # as it is now: somebody may have written to it
        if delete_data:
            if name in [task.name for task in in_force] and not force:
                _refuse_waiting(running, name, task)
            if (kept := settings.vectors_folder / name).exists():
                shutil.rmtree(kept)  # before the topics: while they are there, the command can be repeated
            _delete(running, task)
    console.out.print(
        f"{name} was removed, with its topics and schemas" if delete_data else f"{name} was removed; its topics are kept"
    )


def _refuse_waiting(running: run_state.State, name: str, task: Consumption) -> None:
    """Raises RequestsWait if requests came after the first look, while the worker was stopped."""
    (left,) = waiting(running, [task]).values()
    if left:
        raise RequestsWait(
            f"{name} was removed, but {left} requests came meanwhile, so its data are kept. `./millrace tasks remove {name} "
            "--delete-data --force` deletes them"
        )


def _topics_of(name: str) -> Consumption:
    """The topics of a task, whose names follow from its own, also if its kind or its records are not known any more."""
    return Declaration(name=name, kind=TaskKind.TEXT_CLASSIFICATION).consumption()


def _names(task: Consumption) -> list[str]:
    assert task.results is not None
    sink_letters = dead_letter_name(task.results.name, sink_of(task.group))
    return [task.topic.name, task.results.name, *task.retry_topics(), task.dead_letter_topic, sink_letters]


def _existing(running: run_state.State, task: Consumption) -> bool:
    return not KafkaAdmin(KafkaAddress(bootstrap=running.bootstrap)).partitions().keys().isdisjoint(_names(task))


def _delete(running: run_state.State, task: Consumption) -> None:
    assert task.results is not None
    KafkaAdmin(KafkaAddress(bootstrap=running.bootstrap)).delete(_names(task))
    Registry(running.registry).delete_subjects([task.topic.subject, task.results.subject])
