"""All topics and consumer groups of this installation: those of `topics.py`, and those of the tasks that its people declared.

A process finds the declared tasks in the file that MILLRACE_TASKS names, a command in that of its home (`follow`). The file is read
again when it changes, so that a running process knows a task that was added. Without a file there are only the shipped tasks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from schemas import topics
from schemas.declared import declaration_file
from schemas.declared.declarations import BadDeclaration, Declaration
from schemas.errors import BadSettings
from schemas.topic_kinds import Consumption, Record, Topic

VARIABLE = "MILLRACE_TASKS"
_followed = ""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Compared by identity: a file that did not change gives the same object. broken: by name, why a declared task is left out: the
    records of its code are gone or cannot be used."""

    declared: tuple[Declaration, ...]
    topics: tuple[Topic[Record], ...]
    tasks: tuple[Consumption, ...]
    consumptions: tuple[Consumption, ...]
    broken: Mapping[str, str] = field(default_factory=dict)

    @property
    def task_names(self) -> frozenset[str]:
        """Names of the tasks: those of the groups that answer requests."""
        return frozenset(task.group for task in self.tasks)


def with_declared(declared: Iterable[Declaration]) -> Catalogue:
    """Raises BadDeclaration if the records of a task's code cannot be used."""
    known = _without_broken(declared)
    for cause in known.broken.values():
        raise BadDeclaration(cause)
    return known


def _without_broken(declared: Iterable[Declaration]) -> Catalogue:
    """A task whose code is gone must not take all others with it."""
    added: dict[Declaration, Consumption] = {}
    broken: dict[str, str] = {}
    for task in declared:
        try:
            added[task] = task.consumption()
        except BadDeclaration as error:
            broken[task.name] = str(error)
    own = [topic for task in added.values() for topic in (task.topic, task.results) if topic is not None]
    return Catalogue(
        tuple(added),
        (*topics.CATALOGUE, *own),
        (*topics.TASKS, *added.values()),
        (*topics.CONSUMPTIONS, *added.values(), *(task.sink_consumption() for task in added if task.sink is not None)),
        broken,
    )


def follow(file: Path) -> None:
    """From now on this process finds the declared tasks in this file, unless the variable names another. The variable is not set:
    processes of another home would inherit it."""
    global _followed
    _followed = str(file)


def followed() -> str:
    """The file of declared tasks; empty if there is none."""
    return os.environ.get(VARIABLE) or _followed


def catalogue() -> Catalogue:
    """Raises BadDeclaration if the file of declared tasks has an error."""
    name = followed()
    try:
        state = Path(name).stat() if name else None
    except (FileNotFoundError, NotADirectoryError):
        state = None
    except OSError as error:
        raise BadDeclaration(f"{VARIABLE} names {name}, which cannot be read: {error.strerror}") from error
    return _read(name, state.st_mtime_ns, state.st_size, state.st_ino) if state is not None else _read("", 0, 0, 0)


@lru_cache(maxsize=4)
def _read(name: str, _mtime_ns: int, _bytes: int, _inode: int) -> Catalogue:
    """The last three say which content of the file was read."""
    return _without_broken(declaration_file.read(Path(name), code_is_there=False) if name else ())


def topic(name: str) -> Topic[Record]:
    """Raises BadSettings if there is no such topic."""
    for candidate in catalogue().topics:
        if candidate.name == name:
            return candidate
    raise BadSettings(f"there is no topic {name}; the topics are {', '.join(known.name for known in catalogue().topics)}")


def consumption(task: str) -> Consumption:
    """Raises BadSettings if no task has that name."""
    for candidate in catalogue().tasks:
        if candidate.group == task:
            return candidate
    if task in catalogue().broken:
        raise BadDeclaration(catalogue().broken[task])
    raise BadSettings(f"there is no task {task!r}; the tasks are {', '.join(known.group for known in catalogue().tasks)}")


def declaration(task: str) -> Declaration | None:
    """None for a shipped task, and for a name that no task has."""
    return next((candidate for candidate in catalogue().declared if candidate.name == task), None)


def topics_read_by(group: str) -> tuple[str, ...]:
    """The names of the topics in which a consumer group commits offsets; empty for a group that is not known."""
    for candidate in catalogue().consumptions:
        if candidate.group == group:
            return (candidate.topic.name, *candidate.retry_topics())
    return topics.FLINK_READS.get(group, ())
