"""What a replay notes of a version: its answers, and its time as the median batch tells it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference_workers.models.folder import ModelFolder
from inference_workers.replay import _other_models, task_of
from inference_workers.replayed import Replayed
from inference_workers.task import Use, Version
from tests.support.rows import rows_of
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
