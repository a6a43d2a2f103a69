"""Declares a task in `millrace.toml`, and starts it if the stack runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra import console
from infra import declared as files
from infra.local import loop_processes, run_state
from infra.local.processes import ProcessFailed
from infra.provision import provision, specs
from infra.settings import StackSettings
from infra.tasks.checked import load
from schemas import catalogue
from schemas.declared import declaration_file
from schemas.declared.declaration_file import COMMON
from schemas.declared.declaration_text import with_task
from schemas.declared.declarations import BadDeclaration, Declaration
from schemas.declared.task_kinds import KINDS, Option, TaskKind
from schemas.errors import BadSettings, Stop
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry


class TaskNotAdded(Stop):
    code = "task-not-added"


def add(settings: StackSettings, name: str, table: Mapping[str, Any], options: Sequence[str]) -> None:
    """Nothing is written unless the model answers. If the worker does not start, everything is taken back. Raises BadDeclaration,
    TaskNotAdded, SchemaRefused."""
    file = Path(settings.declarations)
    before = file.read_text() if file.exists() else ""
    if name in [task.name for task in files.declared(settings)]:
        raise BadDeclaration(f"{file} declares {name} already: change it there and run `./millrace up`, or remove it first")
    text = with_task(before, file, name, {**_relative(table, file), **_options(table, options)})
    wanted = declaration_file.parse(text, file)
    catalogue.with_declared(wanted)  # its records can be read
    if load(wanted, name, as_json=False) != 0:
        raise TaskNotAdded(f"{name} was not added: its model does not answer. Nothing was changed")

    def write() -> None:
        if (file.read_text() if file.exists() else "") != before:
            raise TaskNotAdded(f"{name} was not added: {file} was changed meanwhile. Run the command again")
        files.write(file, text)

    running = run_state.read(settings.run_folder)
    if running.up:
        _start(settings, files.with_digest(next(task for task in wanted if task.name == name)), write)
    else:
        with run_state.locked(settings.run_folder):  # two commands at a time would each lose what the other wrote
            write()
    console.out.print(f"{name} was added to {console.escape(str(file))}")
    console.out.print(f"  `./millrace send {name} …`" if running.up else "  `./millrace up` starts it")


def _relative(table: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Paths on a command line start where it was typed; paths in the file start where the file lies."""
    changed = dict(table)
    if "code" in changed:
        changed["code"] = os.path.relpath(Path(changed["code"]).resolve(), file.resolve().parent)
    for scheme in declaration_file.PATH_SCHEMES:
        model = str(changed.get("model", ""))
        if model.startswith(scheme):
            changed["model"] = scheme + os.path.relpath(Path(model.removeprefix(scheme)).resolve(), file.resolve().parent)
    return changed


def _options(table: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE as values of the option's type; a value that does not fit stays text, and the declaration is refused for it."""
    kind = table.get("kind")
    known: Mapping[str, Option] = {**COMMON, **(KINDS[TaskKind(kind)].options if kind in list(TaskKind) else {})}
    options: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise BadSettings(f"--option {word}: write KEY=VALUE")
        option = known.get(key)
        options[key] = value.split(",") if option is not None and option.type is tuple else _value(value, option)
    return options


def _value(text: str, option: Option | None) -> Any:
    try:
        if option is not None and option.type in (int, float):
            return option.type(text)
    except ValueError:
        return text
    return {"true": True, "false": False}.get(text, text) if option is not None and option.type is bool else text


def _start(settings: StackSettings, task: Declaration, write: Callable[[], None]) -> None:
    """Make topics and schemas, start the workers, then write the file. Whatever ends this, everything is taken back."""
    with run_state.locked(settings.run_folder):
        running, before = run_state.require(settings.run_folder), files.in_force(settings)
        admin, registry = KafkaAdmin(KafkaAddress(bootstrap=running.bootstrap)), Registry(running.registry)
        (own, *sinks) = task.consumptions()
        topics = [topic for topic in (own.topic, own.results) if topic is not None]
        new_topics = {spec.name for spec in specs(topics, [own, *sinks])} - admin.partitions().keys()
        new_subjects = [topic.subject for topic in topics if registry.latest(topic.subject) is None]
        try:
            with console.step("topics and schemas") as remark:
                done = provision(admin, registry, topics, [own, *sinks])
                remark(f"{len(done.created_topics)} topics created, {len(done.registered)} schemas registered")
            files.follow(settings, (*(other for other in before if other.name != task.name), task))
            for name in files.processes(task):
                for slot in range(loop_processes.copies(settings, name)):
                    with console.step(f"{name} {slot}" if slot else name):
                        wait = loop_processes.start(settings, running, name, slot)
                        if wait is not None:
                            wait()
            write()
        except BaseException as error:
            loop_processes.stop_workers(settings, running, [task.name])
            files.follow(settings, before)
            admin.delete(sorted(new_topics))
            registry.delete_subjects(new_subjects)
            if isinstance(error, ProcessFailed):
                raise TaskNotAdded(f"{task.name} was not added: {error}. Everything was taken back") from error
            raise
