"""The trainer, on texts the repository carries; the shipped model, on the public data where that is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from sklearn.metrics import average_precision_score

from inference_workers.content_items import ContentItem
from inference_workers.models.folder import SHIPPED, ModelFolder, open_folder
from inference_workers.models.known_words import plain
from inference_workers.networks.disguised_text import KnownWords
from inference_workers.task import Version
from inference_workers.tasks.moderation import TASK
from infra.demo.moderation_demo import texts
from infra.settings import StackSettings
from streams.process.settings import load
from training_triggers.trainers.evaluation import CrossValidation, average_precision, measure, threshold_for
from training_triggers.trainers.moderating import moderation_text, moderation_text_data
from training_triggers.trainers.moderating.logistic import Linear
from training_triggers.trainers.moderating.moderation_text_measures import MAIN_SOURCE, MAX_FALSE_SHARE

DATA = Path(load(StackSettings, os.environ).data)
needs_data = pytest.mark.skipif(
    not (DATA / "sms_spam").exists(), reason=f"model quality needs the public data sets in {DATA} (MILLRACE_DATA)"
)


def small() -> moderation_text_data.Labelled:
    """The demo's texts, labelled by words they hold: enough for a trainer to have something to learn."""
    lines = [text for _, text in texts(200)]
    words = {
        "spam": "call",
        "harassment": "stupid",
        "hate_speech": "vermin",
        "sexual_content": "singles",
        "self_harm": "kill myself",
        "violence": "break",
    }
    labels = [[int(words[category] in line.lower()) for category in moderation_text_data.CATEGORIES] for line in lines]
    sources = ["sms" if i % 2 else "tweets" for i in range(len(lines))]
    return moderation_text_data.Labelled(lines, np.array(sources), np.array(labels, np.int8))


def test_training_twice_gives_the_same_folder_and_it_answers(tmp_path: Path) -> None:
    data = small()
    report = CrossValidation({}, {}, dict.fromkeys(moderation_text_data.CATEGORIES, 0.5), ("hate_speech", "spam"), {})
    words = moderation_text.words_of(data)
    head = moderation_text.Head(Linear(np.ones((384, 6), np.float32), np.zeros(6, np.float32)), report)
    digests = [
        moderation_text.write(
            moderation_text.train(data, plain(data.texts, KnownWords(words)), words, lambda words: None),
            head,
            report,
            lambda difference: "card",
            tmp_path / str(i),
            "9",
        )
        for i in range(2)
    ]
    assert digests[0] == digests[1]
    folder = open_folder(tmp_path / "0", digests[0])
    found = _outputs(folder, ["call now to claim your prize", "lovely weather today"])
    assert found.shape == (2, 2)
    assert found[0, 1] > 0.5 > found[1, 1]
    hidden = _outputs(folder, ["c\u0430ll now to cl4im y\u043eur p r i z e"])
    assert hidden[0, 1] == pytest.approx(found[0, 1], abs=0.02), "words in disguise are judged as plain ones"
    kept = load_file(folder.path / moderation_text.HEAD_FILE)
    assert kept["head_weights"].shape == (384, 2)


def _outputs(folder: ModelFolder, given: list[str]) -> Any:
    """The probabilities that the task gives, (n, coverage)."""
    image = open_folder(SHIPPED / "moderation-image")
    versions = {f.name: Version(f, TASK.load(f, f.name)) for f in (folder, image)}
    (use,) = TASK.predict([ContentItem("c", None, text) for text in given], versions).uses
    return use.outputs


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=60).filter(lambda rows: any(t for t, _ in rows))
)
def test_average_precision_is_what_scikit_learn_says(rows: list[tuple[bool, int]]) -> None:
    truth, scores = np.array([t for t, _ in rows]), np.array([s / 8 for _, s in rows])
    assert average_precision(truth, scores) == pytest.approx(average_precision_score(truth, scores))


def test_a_threshold_keeps_its_precision_and_the_other_sources_share() -> None:
    random = np.random.default_rng(3)
    truth = random.random(4000) < 0.2
    scores = np.clip(random.normal(0.3 + 0.4 * truth, 0.15), 0, 1)
    groups = np.array(["home", "other"])[(random.random(4000) < 0.5).astype(int)]
    limit = threshold_for(truth, scores, groups, 0.9, {"other": 0.01})
    assert limit is not None
    flagged = scores >= limit
    assert truth[flagged].mean() >= 0.9
    assert flagged[(groups == "other") & ~truth].mean() <= 0.012
    assert threshold_for(truth, random.random(4000), groups, 0.9, {}) is None


def test_an_interval_holds_the_measure_and_narrows_with_rows() -> None:
    random = np.random.default_rng(4)
    widths = []
    for n in (200, 5000):
        truth = random.random(n) < 0.3
        scores = random.normal(truth, 1.0)
        found = measure(truth, scores, scores > 1)
        assert found.auprc_low <= found.auprc <= found.auprc_high
        widths.append(found.auprc_high - found.auprc_low)
    assert widths[1] < widths[0]


@needs_data
@pytest.mark.data
def test_the_shipped_model_flags_few_texts_of_other_sources() -> None:
    """On texts it was trained on too, so this guards the shipped file; held-out figures are in the model card."""
    data = moderation_text_data.load(DATA)
    folder = open_folder(SHIPPED / "moderation-text")
    chosen = np.random.default_rng(5).permutation(len(data.texts))[:6000]
    outputs = _outputs(folder, [data.texts[i] for i in chosen])
    for column, category in enumerate(folder.coverage):
        flagged = outputs[:, column] > folder.config["thresholds"][category]
        labels = data.labels[chosen, moderation_text_data.CATEGORIES.index(category)]
        for source, share in MAX_FALSE_SHARE.items():
            negatives = (data.sources[chosen] == source) & (labels == 0)
            if source != MAIN_SOURCE[category] and negatives.any():
                assert flagged[negatives].mean() <= share + 0.005, (category, source)


@needs_data
@pytest.mark.data
def test_the_shipped_model_flags_almost_no_ordinary_text() -> None:
    """On kinds of texts that it was not trained on."""
    folder = open_folder(SHIPPED / "moderation-text")
    limits = [folder.config["thresholds"][category] for category in folder.coverage]
    for kind, ordinary in moderation_text_data.unseen(DATA).items():
        flagged = (_outputs(folder, ordinary[:2_000]) > np.array(limits)).any(axis=1)
        assert flagged.mean() <= 0.008, kind
