"""Checks the file of declared tasks, and one task with its model, in a process of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from infra import console
from infra import declared as files
from infra.settings import StackSettings
from infra.subcommands import python
from schemas import catalogue
from schemas.declared import declarations
from schemas.declared.declarations import BadDeclaration, Declaration


def check(settings: StackSettings, name: str, as_json: bool) -> int:
    """0 if the file, and the named task, are fine. Raises BadDeclaration."""
    wanted = files.declared(settings)
    catalogue.with_declared(wanted)
    if not name:
        if as_json:
            print(json.dumps({"file": settings.declarations, "tasks": [task.name for task in wanted]}))
        else:
            console.out.print(f"{len(wanted)} declared tasks: {', '.join(task.name for task in wanted) or 'none'}")
        return 0
    if name not in [task.name for task in wanted]:
        raise BadDeclaration(
            f"{settings.declarations} declares no task {name!r}; it declares {', '.join(t.name for t in wanted) or 'none'}"
        )
    return load(wanted, name, as_json)


def load(wanted: Sequence[Declaration], name: str, as_json: bool) -> int:
    """Check a task in a process of its own. Returns its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tasks.toml"
        file.write_text(declarations.text_of(wanted))
        words = ["--json"] if as_json else []
        return python("inference_workers", "check", name, *words, **{catalogue.VARIABLE: str(file)})
