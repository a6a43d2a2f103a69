"""What every task keeps: found by its file, answers each row in the fields of its result, whatever the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inference_workers.networks.folder import open_folder, resolve
from inference_workers.task import Task, Version, find_task, task_names
from schemas import avro
from schemas.codec import Decoder, Encoder
from schemas.columns import Columns
from schemas.encoding import Constant
from schemas.errors import BadSettings
from streams.registry import MemoryRegistry


@pytest.fixture(params=task_names())
def task(request: pytest.FixtureRequest) -> Task:
    return find_task(request.param)


@pytest.fixture
def version(task: Task) -> Version:
    folder = open_folder(resolve(task.default_uri))
    return Version(folder, task.load(folder))


def columns_of(task: Task, values: list[dict[str, Any]]) -> Columns:
    record = getattr(task.consumption.topic.record, "RECORD", "")
    ids = MemoryRegistry()
    ids.register("s", avro.schema(record))
    made = [Encoder(record, "s", ids).encode({k: Constant(v) for k, v in value.items()}, 1)[0] for value in values]
    return Decoder(record, ids).decode(made)[0]


def example(task: Task) -> dict[str, Any]:
    record = getattr(task.consumption.topic.record, "RECORD", "")
    return next(iter(avro.examples(record).values()))


def test_its_model_answers_its_example_in_the_fields_of_its_result(task: Task, version: Version) -> None:
    columns = columns_of(task, [example(task)] * 3)
    assert task.check(columns) == {}
    prediction = task.predict(columns, version)
    record = task.results.record
    assert record is not None
    ids = MemoryRegistry()
    ids.register(task.results.subject, avro.schema(record.RECORD))
    fixed: dict[str, Any] = {
        "request_id": Constant("r"), "status": Constant("ok"), "origin_topic": Constant("t"),
        "origin_partition": Constant(0), "origin_offset": Constant(0),
    }  # fmt: skip
    assert len(Encoder(record.RECORD, task.results.subject, ids).encode({**fixed, **prediction.results}, 3)) == 3
    assert prediction.outputs.shape[0] == 3
    assert all(np.asarray(values).shape == (3,) for values in prediction.signals.values())


def test_an_answer_does_not_depend_on_the_company_of_its_batch(task: Task, version: Version) -> None:
    one = task.predict(columns_of(task, [example(task)]), version).outputs
    others = [replace_text(example(task), i) for i in range(63)]
    many = task.predict(columns_of(task, [example(task), *others]), version).outputs
    np.testing.assert_allclose(one[0], many[0], atol=1e-5)


def replace_text(value: dict[str, Any], i: int) -> dict[str, Any]:
    return {**value, "text": f"another text {i} " * (i + 1)} if "text" in value else value


def test_a_name_that_is_no_task_is_answered_with_those_that_are() -> None:
    with pytest.raises(BadSettings, match="moderation"):
        find_task("telepathy")
