"""Declared tasks on this machine: the file that people write, the copy that processes follow, and the step from one to the other.

People write `millrace.toml`. Processes follow a copy in the run folder, which changes only when the topics of its tasks exist. So a
worker that starts again finds the task as it was set up, even if somebody is editing the file at that moment.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from infra.settings import FOLLOWED, StackSettings
from schemas import catalogue
from schemas.declared import declaration_file, declarations
from schemas.declared.declarations import BadDeclaration, Declaration, sink_of


def followed(settings: StackSettings) -> Path:
    """The copy that processes follow."""
    return settings.run_folder.resolve() / FOLLOWED


def declared(settings: StackSettings, *, code_is_there: bool = True) -> tuple[Declaration, ...]:
    """The tasks in the file that people write; none if there is no file. code_is_there: whether a missing file of code is an error.
    Raises BadDeclaration."""
    file = Path(settings.declarations)
    tasks = declaration_file.read(file, code_is_there=code_is_there) if file.exists() else ()
    return tuple(with_digest(task) for task in tasks)


def with_digest(task: Declaration) -> Declaration:
    """The task with the digest of its code as it is now."""
    return replace(task, code_digest=_digest(task.code.parent)) if task.code else task


def _digest(folder: Path) -> str:
    """Of the code and the records in a folder and the folders in it, without environments, hidden folders and node_modules. Raises
    BadDeclaration."""
    digest = hashlib.sha256()
    try:
        for place, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if _may_hold_code(Path(place) / name))
            for file in sorted(Path(place) / name for name in names if name.endswith((".py", ".avsc"))):
                digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes() + b"\0")
    except OSError as error:
        raise BadDeclaration(f"{error.filename or folder} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _may_hold_code(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.name != "node_modules" and not (folder / "pyvenv.cfg").exists()


def in_force(settings: StackSettings) -> tuple[Declaration, ...]:
    """The tasks that processes follow, also if the code of one is gone by now. Raises BadDeclaration."""
    file = followed(settings)
    return declaration_file.read(file, code_is_there=False) if file.exists() else ()


def follow(settings: StackSettings, wanted: Sequence[Declaration]) -> None:
    """Replace the copy."""
    file = followed(settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, declarations.text_of(wanted))
    catalogue.follow(file)


def write(file: Path, text: str) -> None:
    """Replace a file as a whole."""
    staging = file.with_name(f"{file.name}.part")
    staging.write_text(text)
    os.replace(staging, file)


def changed(before: Sequence[Declaration], wanted: Sequence[Declaration]) -> list[str]:
    """Names of tasks that are no longer declared, or not as they were, code included."""
    return [task.name for task in before if task not in wanted]


def processes(task: Declaration) -> list[str]:
    """Names of its processes, without their slots: its worker, and what keeps its vectors."""
    return [task.name, *([sink_of(task.name)] if task.sink is not None else [])]


def owner(process: str) -> str:
    """The declared task of a process, by its name without the slot; empty if it belongs to none."""
    return next((task.name for task in catalogue.catalogue().declared if process in processes(task)), "")


def workers(settings: StackSettings, task: Declaration) -> int:
    return task.workers or settings.workers
