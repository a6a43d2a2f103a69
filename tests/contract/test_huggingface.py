"""The same tasks on checkpoints in the Hugging Face layout: tiny ones, randomly initialised and saved here. What is tested
is that requests take the same way, not what such models say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_workers.media.reader import MediaReader
from inference_workers.models.addresses import open_source
from inference_workers.task import Prediction, Version, find_task
from schemas.errors import ModelRefused
from streams.claim_checks import ClaimChecks
from tests.contract.test_tasks import columns_of
from tests.support import media as files
from tests.support.checkpoints import texts, transcription, translation, vision


@pytest.fixture(scope="module")
def media() -> Iterator[MediaReader]:
    reader = MediaReader(ClaimChecks(()))
    yield reader
    reader.close()


SEVEN = {"data": files.digit_seven()}
CASES: list[tuple[str, str, Any, list[dict[str, Any]]]] = [
    ("vision", "vision-digits", vision, [{"image": SEVEN, "top": 3}, {"image": {"data": files.noise(90)}, "top": 1}]),
    (
        "moderation",
        "moderation-text",
        texts,
        [{"content_id": "c", "text": "hello there"}, {"content_id": "d", "text": "hello my friend how are you today"}],
    ),
    (
        "translation",
        "translation-en-fr",
        translation,
        [{"text": "hello my friend", "source": "en", "target": "de"}, {"text": "how are you", "source": "en", "target": "de"}],
    ),
    ("transcription", "transcription-digits", transcription, [{"audio": {"data": files.sound(0.5, 16_000)}}]),
]


@pytest.mark.parametrize(("task_name", "model", "save", "requests"), CASES, ids=[case[0] for case in CASES])
def test_a_checkpoint_answers_through_the_same_task(
    task_name: str, model: str, save: Any, requests: list[dict[str, Any]], tmp_path: Path, media: MediaReader
) -> None:
    save(tmp_path)
    task = find_task(task_name)
    sources = {**task.models, model: f"hf:{tmp_path}"}
    folders = {name: open_source(uri) for name, uri in sources.items()}
    versions = {name: Version(folder, task.load(folder, name)) for name, folder in folders.items()}
    prepared = task.prepare(columns_of(task, requests), versions, media)
    assert prepared.refused == {}
    prediction: Prediction = task.predict(prepared.inputs, versions)
    assert prediction.uses[0].version.folder.name == str(tmp_path)
    assert {len(column) for column in prediction.results.values() if isinstance(column, list)} == {len(requests)}
    if task_name in ("vision", "moderation"):
        whole = prediction.uses[0].embedding
        assert whole is not None
        assert whole.shape == (len(prediction.uses[0].outputs), 16)
        for i, one in enumerate(prepared.inputs):
            (alone, *_) = task.predict([one], versions).uses
            assert alone.embedding is not None
            np.testing.assert_allclose(alone.embedding[0], whole[i], atol=1e-5, err_msg="padding has a part in it")
    if task_name == "vision":
        assert {found["label"] for found in prediction.results["classes"][0]} == {"cat", "dog", "seal"}  # type: ignore[index]
    if task_name == "moderation":
        assert set(prediction.results["not_covered"][0]) >= {"hate_speech"}  # type: ignore[index]


def test_the_digest_is_that_of_the_files_and_only_safetensors_without_code_are_opened(tmp_path: Path) -> None:
    vision(tmp_path)
    found = open_source(f"hf:{tmp_path}")
    assert open_source(f"hf:{tmp_path}", found.digest) == found
    with pytest.raises(ModelRefused, match="was announced"):
        open_source(f"hf:{tmp_path}", "0" * 64)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "code.Model"}}))
    with pytest.raises(ModelRefused, match="run code of its own"):
        open_source(f"hf:{tmp_path}")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelRefused, match="no safetensors"):
        open_source(f"hf:{tmp_path}")


def test_a_text_of_more_tokens_than_the_model_reads_is_read_to_its_end(tmp_path: Path) -> None:
    head = "hello there " * 40  # 80 of 64 tokens
    ends = [f"{word} " * 20 for word in ("are", "today", "you", "my", "friend")]
    answers: set[int] = set()
    for seed in range(5):  # a text has the logits of its stretch with the largest; of some models that is the head's
        folder = tmp_path / str(seed)
        folder.mkdir()
        texts(folder, seed)
        read: Any = find_task("moderation").load(open_source(f"hf:{folder}"), "moderation-text")
        *long, short = read.classify([*(head + end for end in ends), "hello"]).logits
        answers.add(len({tuple(logits) for logits in long}))
        np.testing.assert_allclose(read.classify(["hello"]).logits[0], short, atol=1e-5)
    assert max(answers) > 1
