"""What every task must keep to, as checks that run on any task: `python -m inference_workers check NAME`.

`./millrace tasks check` runs them on a declared task, `tests/contract/` on every shipped task and kind.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inference_workers.media.reader import MediaReader
from inference_workers.settings import MediaSettings
from inference_workers.task import Prediction, Task, Versions, find_task, loaded
from schemas import avro
from schemas.catalogue import declaration
from schemas.codec import Decoder, Encoder
from schemas.columns import Column, Columns, to_column
from schemas.encoding import Constant
from schemas.errors import MillraceError
from schemas.features import Kind
from streams.process.settings import load
from streams.schema_registry import MemoryRegistry

COMPANY = 15  # other requests in the batch that an answer must not depend on
TOLERANCE = 1e-3


class CheckFailed(Exception):
    """The text says what the task does and what it must do."""


@dataclass(frozen=True)
class Subject:
    """A task with its loaded models, and example requests."""

    task: Task
    versions: Versions
    media: MediaReader
    requests: Sequence[dict[str, Any]]

    def predicted(self, requests: Sequence[dict[str, Any]]) -> Prediction:
        columns = with_features(self.task, columns_of(self.task, requests))
        prepared = self.task.prepare(columns, self.versions, self.media)
        if prepared.refused:
            raise CheckFailed(f"it refuses an example request: {next(iter(prepared.refused.values()))}")
        return self.task.predict(prepared.inputs, self.versions)


def columns_of(task: Task, requests: Sequence[dict[str, Any]]) -> Columns:
    """Requests as the worker decodes them."""
    record, ids = task.consumption.topic.record_name, MemoryRegistry()
    ids.register("s", avro.schema(record))
    values = [Encoder(record, "s", ids).encode({k: Constant(v) for k, v in request.items()}, 1)[0] for request in requests]
    return Decoder(record, ids).decode(values)[0]


def with_features(task: Task, columns: Columns) -> Columns:
    """The columns with the default of each feature that the task needs."""
    kinds = {Kind.INT: "long", Kind.FLOAT: "double", Kind.TEXT: "string"}
    fields: dict[str, Column] = dict(columns.fields)
    for need in task.needs:
        for name in need.features:
            feature = need.view.feature(name)
            fields[need.column(name)] = to_column([feature.default] * columns.n, kinds[feature.kind])
    return Columns(columns.n, fields)


def answers_in_the_fields_of_its_result(subject: Subject) -> None:
    """The answers to three copies of the examples can be written as results, and what the prediction log keeps has one entry each."""
    requests = [*subject.requests] * 3
    prediction, n = subject.predicted(requests), len(requests)
    record, ids = subject.task.results.record_name, MemoryRegistry()
    ids.register("s", avro.schema(record))
    fixed: dict[str, Any] = {"request_id": "r", "status": "ok", "origin_topic": "t", "origin_partition": 0, "origin_offset": 0}
    columns = {**{name: Constant(value) for name, value in fixed.items()}, **prediction.results}
    try:
        values = Encoder(record, "s", ids).encode(columns, n)
    except ValueError as error:
        raise CheckFailed(f"its answers are not results of {record}: {error}") from error
    if len(values) != n:
        raise CheckFailed(f"{n} requests got {len(values)} results")
    if not prediction.uses:
        raise CheckFailed("it names no use of a model, so the prediction log would stay empty: return at least one `Use`")
    for use in prediction.uses:
        entries = n if use.rows is None else len(use.rows)
        _entries(entries, use.outputs, "outputs")
        for name, values_of in use.signals.items():
            _entries(entries, values_of, f"signal {name}")
        if len(use.parts) not in (0, entries):
            raise CheckFailed(f"a use has {len(use.parts)} parts for {entries} entries")
        if not np.isfinite(use.outputs).all():
            raise CheckFailed("an output is NaN or infinite")


def _entries(expected: int, values: Any, what: str) -> None:
    if np.asarray(values).shape[:1] != (expected,):
        raise CheckFailed(f"{what} have shape {np.asarray(values).shape}; there must be {expected} entries, one per request")


def does_not_depend_on_the_company_of_its_batch(subject: Subject) -> None:
    """A request that is alone gets the same answer as in a batch with others."""
    request = subject.requests[0]
    alone = subject.predicted([request])
    together = subject.predicted([request, *(_another(request, i) for i in range(COMPANY))])
    for one, many in zip(alone.uses, together.uses, strict=True):
        if not np.allclose(one.outputs[0], many.outputs[0], atol=TOLERANCE):
            raise CheckFailed(f"an answer depends on the others of its batch: {one.outputs[0]} alone, {many.outputs[0]} together")


def _another(request: dict[str, Any], i: int) -> dict[str, Any]:
    return {**request, "text": f"another text {i} " * (i % 20 + 1)} if "text" in request else request


def failures_can_be_written(subject: Subject) -> None:
    """A result without the task's own fields can be written: that of a request that failed."""
    record, ids = subject.task.results.record_name, MemoryRegistry()
    ids.register("s", avro.schema(record))
    fixed: dict[str, Any] = {"request_id": "r", "status": "failed", "error_code": "poison", "error_message": "…"}
    origin: dict[str, Any] = {"origin_topic": "t", "origin_partition": 0, "origin_offset": 0}
    try:
        Encoder(record, "s", ids).encode({name: Constant(value) for name, value in {**fixed, **origin}.items()}, 1)
    except ValueError as error:
        raise CheckFailed(f"a failed request cannot be answered: {error}; give each field of the result a default") from error


CHECKS: Sequence[Callable[[Subject], None]] = (
    answers_in_the_fields_of_its_result,
    does_not_depend_on_the_company_of_its_batch,
    failures_can_be_written,
)


def examples(task: Task) -> list[dict[str, Any]]:
    """Example requests: beside the code of a task of somebody's own, else those of its request's record. Raises CheckFailed."""
    record = task.consumption.topic.record_name
    declared = declaration(task.name)
    if declared is None or declared.code is None:
        values = list(avro.examples(record).values())
    else:
        files = sorted((declared.code.parent / "examples").glob("*.json"))
        if not files:
            raise CheckFailed(f"{declared.code.parent / 'examples'} has no request: put at least one there, as a JSON file")
        return [_request_in(file, record) for file in files]
    return [avro.from_json(value, avro.schema(record)) for value in values]


def _request_in(file: Path, record: str) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text())
        if isinstance(value, dict):
            request: dict[str, Any] = avro.from_json(value, avro.schema(record))
            return request
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckFailed(f"{file} is not a request, {record}, as JSON: {error}") from error
    raise CheckFailed(f"{file} is not a request: it must be a JSON object")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="inference_workers check", description="Load a task's models and check its answers.")
    parser.add_argument("name")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    try:
        task = find_task(chosen.name)
        versions = {model: loaded(task, model, source) for model, source in task.models.items()}
        return _report(task, versions, chosen.json)
    except MillraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
    except CheckFailed as error:
        print(f"check-failed: {chosen.name}: {error}", file=sys.stderr)
    return 1


def _report(task: Task, versions: Versions, as_json: bool) -> int:
    media = load(MediaSettings, os.environ, task.name).reader()
    try:
        subject = Subject(task, versions, media, fitting(task, versions, examples(task)))
        checks = CHECKS if _answers_examples(versions) else (failures_can_be_written,)
        rows = [(check.__name__.replace("_", " "), _cause(check, subject)) for check in checks]
    finally:
        media.close()
    for name, cause in rows:
        print(
            json.dumps({"check": name, "ok": not cause, "cause": cause})
            if as_json
            else f"  {'✗' if cause else '✓'} {name}{cause and ': ' + cause}"
        )
    if len(checks) < len(CHECKS):
        print(f"  {task.name}: its model refuses categories that are made up, so its answers were not checked", file=sys.stderr)
    return 1 if any(cause for _, cause in rows) else 0


def _answers_examples(versions: Versions) -> bool:
    return all(getattr(version.backend, "answers_examples", True) for version in versions.values())


def fitting(task: Task, versions: Versions, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Example requests that fit the model: rows of a table get the model's own columns."""
    table = next((version.backend for version in versions.values() if hasattr(version.backend, "categories")), None)
    if table is None:
        return list(requests)
    return [
        {**r, "numbers": dict.fromkeys(table.numbers, 0.5), "categories": dict.fromkeys(table.categories, "a")} for r in requests
    ]


def _cause(check: Callable[[Subject], None], subject: Subject) -> str:
    try:
        check(subject)
    except (CheckFailed, MillraceError) as error:
        return str(error)
    except (Exception, SystemExit) as error:  # a task of somebody's own may raise anything
        return f"{type(error).__name__}: {error}"
    return ""
