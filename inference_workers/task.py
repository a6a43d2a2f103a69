"""The task seam: what one kind of request needs. One file in `tasks/` is one task; its file name is its name.

A task module defines `TASK`, an object that keeps the `Task` protocol; the worker finds it by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from inference_workers.backends.backend import Backend
from inference_workers.networks.folder import ModelFolder
from schemas.columns import Columns
from schemas.encoding import Input
from schemas.errors import BadSettings, RecordError
from schemas.topics import Consumption, Topic


@dataclass(frozen=True)
class Version:
    """A model version that is loaded and warm."""

    folder: ModelFolder
    backend: Backend
    arm: str = "live"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of a batch of n requests.

    results: the task's own fields of the result record, a column each. outputs: what the prediction log keeps,
    shape (n, …). signals: named numbers for drift detectors, float32 of shape (n,).
    """

    results: Mapping[str, Input]
    outputs: npt.NDArray[Any]
    signals: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


class Task(Protocol):
    name: str
    consumption: Consumption
    results: Topic[Any]
    model: str  # name of the model that answers
    default_uri: str  # its folder where no model update has named another

    def load(self, folder: ModelFolder) -> Backend:
        """Load a checked folder and warm it up. Raises ModelRefused where it does not fit the task."""
        ...

    def check(self, columns: Columns) -> dict[int, RecordError]:
        """Requests that decode but cannot be answered, by row."""
        ...

    def predict(self, columns: Columns, version: Version) -> Prediction:
        """Answer all rows. May raise anything: the batch is then halved until the culprit is alone."""
        ...


def task_names() -> tuple[str, ...]:
    folder = Path(__file__).parent / "tasks"
    return tuple(sorted(file.stem.replace("_", "-") for file in folder.glob("*.py") if file.stem != "__init__"))


def find_task(name: str) -> Task:
    """Raises BadSettings where there is no such task."""
    if name not in task_names():
        raise BadSettings(f"no task {name!r}; there are: {', '.join(task_names())}")
    task: Task = import_module(f"inference_workers.tasks.{name.replace('-', '_')}").TASK
    return task
