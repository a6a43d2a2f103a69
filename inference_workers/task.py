"""The interface of a task, which answers one kind of request.

Each file in `tasks/` is one shipped task, named after the file: it defines `TASK`, an object that implements the `Task` protocol.
A declared task is made by its kind, a file in `kinds/`, or by code of somebody's own. The worker finds a task by its name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from inference_workers.backends.backend import Backend
from inference_workers.media.reader import MediaReader
from inference_workers.models.addresses import open_for
from inference_workers.models.folder import ModelFolder
from processors.features.enrich import Need
from schemas.catalogue import catalogue, declaration
from schemas.columns import Columns
from schemas.declared.declarations import Declaration
from schemas.declared.task_kinds import TaskKind
from schemas.encoding import Input
from schemas.errors import BadSettings, MillraceError, ModelRefused, RecordError
from schemas.topic_kinds import Consumption, Topic


@dataclass(frozen=True)
class Version:
    """A model version that is loaded and warm."""

    folder: ModelFolder
    backend: Any  # returned by the task's `load`, which knows its type
    arm: str = "live"


Versions = Mapping[str, Version]  # by the model's name in the task; an optional model may be missing


@dataclass(frozen=True, slots=True)
class Use:
    """The predictions of one model for a batch. Entry i of each array belongs to request `rows[i]`, or to request i if rows is
    None.

    outputs: the outputs that the prediction log keeps, shape (entries, …). signals: named numbers for drift detectors, float32
    (entries,). parts: which part of its request each entry is; empty if every request is one part. thresholds: float32, one per
    output, from which the output counts as positive; None if the largest output decides. seen: the model's input for each entry,
    texts or pictures of one shape, so that a model can be trained on real requests; empty if the input is neither. embedding:
    float32 (entries, width), the input of the model's last layer; None if the model does not return it. labels: names of the outputs
    if they are not the model's own classes.
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
    labels: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each column of the outputs; empty if columns have no names."""
        coverage = self.labels or self.version.folder.coverage
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
    """A task may also have `optional_models` and `take_items`: see the functions of these names."""

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


def optional_models(task: Task) -> Sequence[str]:
    """The models that a task does without until a setting or an update names a version of them."""
    names: Sequence[str] = getattr(task, "optional_models", ())
    return names


class ItemChange(NamedTuple):
    """The newest record of an item in `items-v1`. title, category: None if the item was removed."""

    item_id: str
    title: str | None = None
    category: str | None = None
    price_cents: int | None = None


# Of a backend: the changes since the last call, and the ids of all items if those that are not among them must go.
TakeItems = Callable[[Any, Sequence[ItemChange], Collection[str] | None], None]


def take_items(task: Task) -> TakeItems | None:
    """How a task gives a backend of its own the items that came, changed or were removed; None if it does not know items."""
    take: TakeItems | None = getattr(task, "take_items", None)
    return take


KIND_MODULES: Mapping[TaskKind, str] = {
    TaskKind.TEXT_CLASSIFICATION: "text_classification",
    TaskKind.TOKEN_CLASSIFICATION: "token_classification",
    TaskKind.EMBEDDING: "text_embedding",
    TaskKind.IMAGE_CLASSIFICATION: "image_classification",
    TaskKind.OCR: "picture_text",
    TaskKind.TRANSCRIPTION: "sound_transcription",
    TaskKind.TEXT_TO_TEXT: "text_to_text",
    TaskKind.TABULAR: "tabular",
}


def shipped_task_names() -> tuple[str, ...]:
    folder = Path(__file__).parent / "tasks"
    return tuple(sorted(file.stem.replace("_", "-") for file in folder.glob("*.py") if file.stem != "__init__"))


def task_names() -> tuple[str, ...]:
    """The shipped tasks, and those that people declared."""
    return (*shipped_task_names(), *(declared.name for declared in catalogue().declared))


def find_task(name: str) -> Task:
    """Raises BadSettings if there is no such task, or its code cannot be used."""
    if name in shipped_task_names():
        task: Task = import_module(f"inference_workers.tasks.{name.replace('-', '_')}").TASK
        return task
    declared = declaration(name)
    if declared is None and name in catalogue().broken:
        raise BadSettings(catalogue().broken[name])
    if declared is None:
        raise BadSettings(f"no task {name!r}; there are: {', '.join(task_names())}")
    if declared.kind is None:
        return own_task(declared)
    kind = import_module(f"inference_workers.kinds.{KIND_MODULES[declared.kind]}").KIND
    made: Task = kind(declared.consumption(), declared.name, declared.model, declared.options)
    return made


def loaded(
    task: Task, model: str, address: str, digest: str | None = None, version: str | None = None, arm: str = "live"
) -> Version:
    """The version at an address, loaded by the task. digest, version: those that were announced; None if none was. Raises RetryLater if
    a registry or a store does not answer, ModelRefused, also for a library's own error about files that only look valid."""
    try:
        folder = open_for(model, address, digest)
        if version not in (None, folder.version):
            raise ModelRefused(f"{address} is version {folder.version}; {model} {version} was announced")
        return Version(folder, task.load(folder, model), arm)
    except MillraceError:
        raise
    except (Exception, SystemExit) as error:
        (reason, *_) = str(error).splitlines() or [""]
        raise ModelRefused(f"{address} cannot be loaded: {type(error).__name__}: {reason[:400]}") from error


def own_task(declared: Declaration) -> Task:
    """The task of somebody's own file, which defines `TASK`: a class that takes a `Declaration`. Raises BadSettings."""
    assert declared.code is not None
    name = f"millrace_own_{declared.name.replace('-', '_')}"
    spec = spec_from_file_location(name, declared.code)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up there
    sys.path.insert(0, str(declared.code.parent))  # so that it can import the files beside it
    try:
        spec.loader.exec_module(module)
        task: Task = module.TASK(declared)
    except (Exception, SystemExit) as error:
        raise BadSettings(f"{declared.code} cannot be used as task {declared.name}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(declared.code.parent))
    return task
