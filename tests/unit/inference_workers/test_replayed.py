"""What a replay notes of a version: its answers, and its time as the median batch tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.replay import _other_models, replay, task_of
from inference_workers.replayed import Replayed
from inference_workers.task import Prediction, Prepared, Use, Version, Versions
from schemas import avro
from schemas.catalogue import consumption
from schemas.codec import Encoder
from schemas.columns import Columns
from schemas.encoding import Constant
from schemas.topics import CONTENT, MODERATION_VERDICTS
from streams.schema_registry import MemoryRegistry
from tests.support.rows import rows_at, rows_of
from training_triggers.recorded.comparison import read

VERSION = Version(ModelFolder(Path("."), "purchases", "9", "", {"coverage": ["spam"]}, {}), None)


def test_a_batch_that_waited_for_the_processor_does_not_make_a_version_slow(tmp_path: Path) -> None:
    replayed = Replayed(VERSION)
    for n, compute_ms in ((4, 8.0), (8, 16.0), (4, 4_000.0)):
        batch = rows_of([(("t", 0), row) for row in range(n)])
        replayed.add(Use(VERSION, np.zeros((n, 1), "<f4"), compute_ms), batch, with_seen=False)
    assert replayed.compute_ms == pytest.approx(16 * 2.0)
    replayed.write(tmp_path / "0.npz", {}, with_seen=False)
    assert read(tmp_path / "0.npz").ms_per_entry == pytest.approx(2.0)


def test_a_version_without_answers_took_no_time() -> None:
    assert Replayed(VERSION).compute_ms == 0.0


def test_outputs_that_are_not_the_model_s_classes_keep_their_names(tmp_path: Path) -> None:
    version = Version(ModelFolder(Path("."), "nsfw", "9", "", {"coverage": ["neutral", "porn"]}, {}), None)
    replayed = Replayed(version)
    use = Use(version, np.full((2, 1), 0.25, "<f4"), 1.0, labels=("sexual_content",))
    replayed.add(use, rows_of([(("t", 0), row) for row in range(2)]), with_seen=False)
    replayed.write(tmp_path / "0.npz", {}, with_seen=False)
    found = read(tmp_path / "0.npz")
    assert (found.names, found.outputs.tolist()) == (("sexual_content",), [[0.25], [0.25]])


def test_an_optional_model_is_of_its_task_and_takes_no_part_in_the_replay_of_another() -> None:
    task = task_of("moderation-nsfw")
    assert task.name == "moderation"
    assert set(_other_models(task, "moderation-text")) == {"moderation-image"}
    assert set(_other_models(task, "moderation-nsfw")) == {"moderation-image", "moderation-text"}


class Timed:
    """A task on a machine whose processor is busy with other work at some of the calls. Its model has no names but one."""

    name, results, reads_media = "moderation", MODERATION_VERDICTS, False
    consumption = consumption("moderation")
    needs: Sequence[Any] = ()

    def __init__(self, busy: set[int]) -> None:
        self.models: Mapping[str, str] = {"purchases": "none"}
        self.busy, self.asked = busy, list[str]()

    def load(self, folder: ModelFolder, model: str) -> Any: ...

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        return Prepared(columns.text("text"), {})

    def predict(self, inputs: Sequence[Any], versions: Versions) -> Prediction:
        compute_ms = 900.0 if len(self.asked) in self.busy else 3.0
        self.asked.append(versions["purchases"].folder.version)
        return Prediction({}, [Use(versions["purchases"], np.zeros((len(inputs), 1), "<f4"), compute_ms)])


def test_a_busy_moment_does_not_make_the_version_that_ran_then_seem_slow() -> None:
    ids = MemoryRegistry()
    ids.register(CONTENT.subject, avro.schema("content"))
    value = Encoder.of(CONTENT, ids).encode({"content_id": Constant("c"), "text": Constant("hello")}, 1)[0]
    asked = rows_at((CONTENT.name, 0), [value] * 3, keys=[b"k"] * 3)
    other = Version(ModelFolder(Path("."), "purchases", "10", "", {"coverage": ["spam"]}, {}), None)
    for first in range(6):
        task = Timed(busy=set(range(first, first + 4)))
        old, new = replay(task, "purchases", [VERSION, other], iter([asked]), ids)
        assert [old.compute_ms, new.compute_ms] == pytest.approx([3.0, 3.0])
        assert sorted(task.asked) == sorted(["9", "10"] * 5), "as often as each other"
        assert (len(old.request_ids), len(new.request_ids)) == (3, 3), "each answer is kept once"
