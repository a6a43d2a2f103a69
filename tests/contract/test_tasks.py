"""What every task keeps: found by its file, answers each row in the fields of its result, whatever the batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from inference_workers.media.reader import MediaReader
from inference_workers.models.addresses import open_source
from inference_workers.task import Prediction, Task, Version, Versions, find_task, task_names
from processors.features.enrich import Enrich
from processors.features.online_store import MemoryStore
from schemas import avro
from schemas.codec import Decoder, Encoder
from schemas.columns import Columns
from schemas.encoding import Constant
from schemas.errors import BadSettings
from streams.claim_checks import ClaimChecks
from streams.clock import ManualClock
from streams.metrics import Metrics
from streams.schema_registry import MemoryRegistry


@pytest.fixture(params=task_names())
def task(request: pytest.FixtureRequest) -> Task:
    return find_task(request.param)


@pytest.fixture
def versions(task: Task) -> Versions:
    folders = {model: open_source(source) for model, source in task.models.items()}
    return {model: Version(folder, task.load(folder, model)) for model, folder in folders.items()}


@pytest.fixture(scope="module")
def media() -> Iterator[MediaReader]:
    reader = MediaReader(ClaimChecks(()))
    yield reader
    reader.close()


def columns_of(task: Task, values: list[dict[str, Any]]) -> Columns:
    record = task.consumption.topic.record_name
    ids = MemoryRegistry()
    ids.register("s", avro.schema(record))
    made = [Encoder(record, "s", ids).encode({k: Constant(v) for k, v in value.items()}, 1)[0] for value in values]
    columns = Decoder(record, ids).decode(made)[0]
    return Enrich(task.needs, MemoryStore(), ManualClock(), Metrics())(columns).columns


def examples(task: Task) -> list[dict[str, Any]]:
    record = task.consumption.topic.record_name
    found = [avro.from_json(value, avro.schema(record)) for value in avro.examples(record).values()]
    return [value for value in found if value.get("content_id") != "c-1003"]  # the one that is there to be refused


def predicted(task: Task, versions: Versions, media: MediaReader, values: list[dict[str, Any]]) -> Prediction:
    prepared = task.prepare(columns_of(task, values), versions, media)
    assert prepared.refused == {}
    return task.predict(prepared.inputs, versions)


def test_its_models_answer_its_examples_in_the_fields_of_its_result(task: Task, versions: Versions, media: MediaReader) -> None:
    values = examples(task) * 3
    prediction = predicted(task, versions, media, values)
    record = task.results.record
    assert record is not None
    ids = MemoryRegistry()
    ids.register(task.results.subject, avro.schema(record.RECORD))
    fixed: dict[str, Any] = {
        "request_id": Constant("r"),
        "status": Constant("ok"),
        "origin_topic": Constant("t"),
        "origin_partition": Constant(0),
        "origin_offset": Constant(0),
    }
    n = len(values)
    assert len(Encoder(record.RECORD, task.results.subject, ids).encode({**fixed, **prediction.results}, n)) == n
    for use in prediction.uses:
        entries = n if use.rows is None else len(use.rows)
        assert use.outputs.shape[0] == entries
        assert len(use.parts) in (0, entries)
        assert all(np.asarray(values).shape == (entries,) for values in use.signals.values())
        if use.version.folder.config["network"] == "convnet":
            assert use.embedding is not None
            assert use.embedding.shape == (entries, 192)


def test_an_answer_does_not_depend_on_the_company_of_its_batch(task: Task, versions: Versions, media: MediaReader) -> None:
    value = examples(task)[0]
    one = predicted(task, versions, media, [value])
    others = [replace_text(value, i) for i in range(63)]
    many = predicted(task, versions, media, [value, *others])
    for alone, together in zip(one.uses, many.uses, strict=True):
        np.testing.assert_allclose(alone.outputs[0], together.outputs[0], atol=1e-4)
        if alone.embedding is not None and together.embedding is not None:
            np.testing.assert_allclose(alone.embedding[0], together.embedding[0], atol=1e-4)


def replace_text(value: dict[str, Any], i: int) -> dict[str, Any]:
    return {**value, "text": f"another text {i} " * (i % 20 + 1)} if "text" in value else value


def test_a_name_that_is_no_task_is_answered_with_those_that_are() -> None:
    with pytest.raises(BadSettings, match="moderation"):
        find_task("telepathy")
