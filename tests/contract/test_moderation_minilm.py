"""`moderation-minilm`: made of a checkpoint and the shipped text model, it judges by both, alone as in a batch, and can be retrained.

The checkpoint is a small one of MiniLM's kind and width, with random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

from inference_workers.backends.choose import text_classifier
from inference_workers.backends.onnx import OnnxNetwork
from inference_workers.backends.torch_networks import TorchNetwork
from inference_workers.content_items import content_item
from inference_workers.fetching import conversions, fetch
from inference_workers.models.folder import SHIPPED, ModelFolder, open_folder, write_manifest
from inference_workers.models.packages import named
from inference_workers.networks.ngrams import ngram_inputs
from inference_workers.networks.sentence_encoder import of_checkpoint
from inference_workers.networks.tokens import SentenceTokenizer
from inference_workers.task import Version
from inference_workers.tasks.moderation import TASK
from schemas.errors import ModelRefused
from tests.support import checkpoints
from tests.support.judges import item, verdicts
from training_triggers.recorded.training_window import Examples
from training_triggers.trainers.retrain import RETRAIN, Job

TEXTS = [
    "hello there",
    "how are you today my friend",
    "You have won a FREE prize, call now to claim",
    "I h4te you " + "friend " * 20,
]
WIDTH = 384


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "model"
    folder.mkdir()
    checkpoints.sentences(folder, hidden_size=WIDTH, num_attention_heads=12, num_hidden_layers=2)
    (folder / "modules.json").write_text("[]")
    return folder


@pytest.fixture(scope="module")
def made(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    folder = tmp_path_factory.mktemp("made") / "folder"
    conversions.write(named("moderation-minilm"), checkpoint.parent, folder)
    return open_folder(folder)


def test_the_encoder_gives_what_transformers_gives_and_padding_counts_for_nothing(checkpoint: Path) -> None:
    tokens, mask = SentenceTokenizer(checkpoint / "tokenizer.json").encode(TEXTS)
    assert (mask == 0).any()
    inputs = torch.from_numpy(tokens), torch.from_numpy(mask)
    with torch.inference_mode():
        ours = of_checkpoint(checkpoint)(*inputs)
        hidden = transformers.AutoModel.from_pretrained(checkpoint)(
            input_ids=inputs[0], attention_mask=inputs[1]
        ).last_hidden_state
        weights = inputs[1].float()[..., None]
        theirs = torch.nn.functional.normalize((hidden * weights).sum(dim=1) / weights.sum(dim=1), dim=1)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


def test_its_judgement_is_a_part_of_the_shipped_model_s_and_its_head_s(made: ModelFolder) -> None:
    light = open_folder(SHIPPED / "moderation-text")
    scores, by_ngrams = text_classifier(made).classify(TEXTS), text_classifier(light).classify(TEXTS)
    head = load_file(light.path / "minilm_head.safetensors")
    assert scores.embedding is not None
    np.testing.assert_allclose(np.linalg.norm(scores.embedding, axis=1), 1.0, atol=1e-5)
    by_head = scores.embedding @ head["head_weights"].astype(np.float32) + head["head_bias"]
    np.testing.assert_allclose(scores.logits, by_ngrams.logits * head["head_scale"] + by_head, atol=2e-3)
    assert made.coverage == light.coverage
    assert made.config["thresholds"] == light.config["minilm_thresholds"]


def test_a_text_is_judged_alone_as_in_a_batch(made: ModelFolder) -> None:
    classifier = text_classifier(made)
    together = classifier.classify(TEXTS * 20)
    assert len(together.logits) == len(TEXTS) * 20
    for row, text in enumerate(TEXTS):
        alone = classifier.classify([text])
        np.testing.assert_allclose(together.logits[row], alone.logits[0], atol=1e-4)
        np.testing.assert_allclose(together.logits[row + 4 * len(TEXTS)], alone.logits[0], atol=1e-4)


def test_words_in_disguise_are_judged_as_plain_ones(made: ModelFolder) -> None:
    logits = text_classifier(made).classify(["I hate you all", "I h4te you аll", "I h a t e you all"]).logits
    np.testing.assert_allclose(logits[1:], logits[:1].repeat(2, axis=0), atol=1e-4)


def test_torch_gives_what_onnx_runtime_gives(made: ModelFolder) -> None:
    tokens, mask = SentenceTokenizer(made.path / "tokenizer.json").encode(TEXTS)
    inputs = {**ngram_inputs(TEXTS), "tokens": tokens, "mask": mask}
    by_onnx, by_torch = OnnxNetwork(made, "model.onnx").run(inputs), TorchNetwork(made).run(inputs)
    assert list(by_onnx) == list(made.signature["outputs"])
    for output, values in by_onnx.items():
        np.testing.assert_allclose(values, by_torch[output], atol=2e-4)


def test_it_answers_as_the_text_model_of_moderation_and_its_embedding_is_logged(made: ModelFolder) -> None:
    by = {
        "moderation-text": Version(made, TASK.load(made, "moderation-text")),
        "moderation-image": Version(image := open_folder(SHIPPED / "moderation-image"), TASK.load(image, "moderation-image")),
    }
    (verdict,) = verdicts([item(0, TEXTS[2])], by)
    assert {one["category"] for one in verdict["categories"]} == set(made.coverage)
    (use,) = TASK.predict([content_item("c", None, TEXTS[0])], by).uses
    assert use.embedding is not None
    assert use.embedding.shape == (1, WIDTH)


def test_retraining_moves_its_ngrams_to_the_labels_and_leaves_the_encoder(made: ModelFolder, tmp_path: Path) -> None:
    spam = made.coverage.index("spam")
    seen = [f"kindly see the parcel page {i}" for i in range(20)] + [f"shall we meet by the river at {i}" for i in range(20)]
    truth = np.full((40, len(made.coverage)), -1, np.int8)
    truth[:, spam] = [1] * 20 + [0] * 20
    examples = Examples([str(i) for i in range(40)], seen, truth, made.coverage)
    job = Job(tmp_path / "next", tmp_path, "3", tmp_path, "a test")
    digest = RETRAIN["moderation-text"](made, examples, job, lambda words: None).made.digest
    after = open_folder(tmp_path / "next", digest)
    new = ["kindly see the parcel page now", "shall we meet by the river"]
    before_logits, after_logits = (text_classifier(folder).classify(new).logits[:, spam] for folder in (made, after))
    assert after_logits[0] > before_logits[0] + 1
    threshold = made.config["thresholds"]["spam"]
    assert after_logits[1] < min(after_logits[0] - 1, np.log(threshold / (1 - threshold))), "what is ordinary stays so"
    old_weights, new_weights = (load_file(folder.path / "model.safetensors") for folder in (made, after))
    changed = {name for name in old_weights if not np.array_equal(old_weights[name], new_weights[name])}
    assert changed == {"hashed.word_weights", "hashed.char_weights", "hashed.bias"}


def test_a_checkpoint_of_another_width_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "package" / "model"
    folder.mkdir(parents=True)
    checkpoints.sentences(folder)
    (folder / "modules.json").write_text("[]")
    with pytest.raises(ModelRefused, match="do not fit"):
        conversions.write(named("moderation-minilm"), folder.parent, tmp_path / "made")


def test_it_is_made_anew_when_another_version_of_the_shipped_model_comes(
    made: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch._is_current(made.path, named("moderation-minilm"))
    shutil.copytree(SHIPPED / "moderation-text", tmp_path / "moderation-text")
    monkeypatch.setattr(fetch, "SHIPPED", tmp_path)
    assert fetch._is_current(made.path, named("moderation-minilm")), "the same version in another place"
    write_manifest(tmp_path / "moderation-text", "moderation-text", "9")
    assert not fetch._is_current(made.path, named("moderation-minilm"))
