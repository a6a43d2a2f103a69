"""The interface of a task, which answers one kind of request. Each file in `tasks/` is one task, named after the file.

A task module defines `TASK`, an object that implements the `Task` protocol; the worker finds it by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from inference_workers.backends.backend import Backend
from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from processors.features.enrich import Need
from schemas.columns import Columns
from schemas.encoding import Input
from schemas.errors import BadSettings, RecordError
from schemas.topic_kinds import Consumption, Topic


@dataclass(frozen=True)
class Version:
    """A model version that is loaded and warm."""

    folder: ModelFolder
    backend: Any  # returned by the task's `load`, which knows its type
    arm: str = "live"


Versions = Mapping[str, Version]  # by the model's name in the task


@dataclass(frozen=True, slots=True)
class Use:
    """The predictions of one model for a batch. Entry i of each array belongs to request `rows[i]`, or to request i if rows is
    None.

    outputs: the outputs that the prediction log keeps, shape (entries, …). signals: named numbers for drift detectors, float32
    (entries,). parts: which part of its request each entry is; empty if every request is one part. thresholds: float32, one per
    output, from which the output counts as positive; None if the largest output decides. seen: the model's input for each entry,
    texts or pictures of one shape, so that a model can be trained on real requests; empty if the input is neither. embedding:
    float32 (entries, width), the input of the model's last layer; None if the model does not return it.
    """

    version: Version
    outputs: npt.NDArray[Any]
    compute_ms: float
    rows: Sequence[int] | None = None
    parts: Sequence[str] = ()
    signals: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    thresholds: npt.NDArray[Any] | None = None
    seen: Sequence[Any] = ()
    embedding: npt.NDArray[Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each column of the outputs; empty if columns have no names."""
        coverage = self.version.folder.coverage
        return coverage if self.outputs.shape[1:] == (len(coverage),) else ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answers to n requests. results: the fields of the result record that the task adds, one column each."""

    results: Mapping[str, Input]
    uses: Sequence[Use]


@dataclass(frozen=True, slots=True)
class Prepared:
    """inputs: one per request that can be answered, in order. refused: the errors of the other requests, by row."""

    inputs: Sequence[Any]
    refused: Mapping[int, RecordError]


class Task(Protocol):
    name: str
    consumption: Consumption
    results: Topic[Any]
    reads_media: bool  # whether its requests contain images, videos or sounds
    needs: Sequence[Need]  # features of the entities that its requests name; they are added as columns
    models: Mapping[str, str]  # the models that answer, and the source of each until an update names another

    def load(self, folder: ModelFolder, model: str) -> Backend:
        """Load a checked folder and warm it up. Raises ModelRefused if it does not fit the task."""
        ...

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        """Convert decoded requests to the inputs of `predict`. Raises RetryLater if a store does not answer."""
        ...

    def predict(self, inputs: Sequence[Any], versions: Versions) -> Prediction:
        """Answer all inputs. May raise any exception: the batch is then halved until the failing request is alone."""
        ...


def task_names() -> tuple[str, ...]:
    folder = Path(__file__).parent / "tasks"
    return tuple(sorted(file.stem.replace("_", "-") for file in folder.glob("*.py") if file.stem != "__init__"))


def find_task(name: str) -> Task:
    """Raises BadSettings if there is no such task."""
    if name not in task_names():
        raise BadSettings(f"no task {name!r}; there are: {', '.join(task_names())}")
    task: Task = import_module(f"inference_workers.tasks.{name.replace('-', '_')}").TASK
    return task
