"""How `moderation-text` is fitted and measured: the regression, the thresholds, and texts that are rewritten as people do who hide."""

from __future__ import annotations

import random

import numpy as np
import pytest
import scipy.sparse as sparse
from sklearn.linear_model import LogisticRegression

from inference_workers.networks.disguised_text import KnownWords
from inference_workers.networks.ngrams import normalise
from training_triggers.trainers.moderating import logistic, moderation_text_measures
from training_triggers.trainers.moderating.moderation_text_data import CATEGORIES, Labelled
from training_triggers.trainers.moderating.moderation_text_disguises import REWRITES
from training_triggers.trainers.moderating.moderation_text_folds import Disguised, Folds

TEXT = "nobody should hate those people because they live here"


@pytest.mark.parametrize("strength", [0.5, 10.0])
def test_the_regression_is_scikit_learn_s_and_unknown_labels_count_for_nothing(strength: float) -> None:
    draw = np.random.default_rng(1)
    features = sparse.csr_matrix(draw.normal(size=(300, 6)) * (draw.random((300, 6)) < 0.5))
    labels = (features @ draw.normal(size=(6, 2)) + draw.normal(size=(300, 2)) > 0).astype(np.int8)
    labels[::3, 1] = -1
    weights = (labels >= 0).astype(np.float32)
    found = logistic.fit(features, labels, weights, np.full(2, strength, np.float32), steps=500)
    for column in range(2):
        known = labels[:, column] >= 0
        theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=1000).fit(features[known], labels[known, column])
        np.testing.assert_allclose(found.weights[:, column], theirs.coef_[0], atol=5e-3)
        assert found.bias[column] == pytest.approx(theirs.intercept_[0], abs=5e-3)


@pytest.mark.parametrize("way", REWRITES)
def test_a_rewritten_text_is_another_one_and_is_read_as_it_was_written(way: str) -> None:
    rewritten = REWRITES[way](TEXT, random.Random(3))
    known = KnownWords(TEXT.split())
    assert rewritten != TEXT
    assert normalise(known.undisguised(rewritten)) == TEXT


def test_a_threshold_lets_few_negatives_of_each_source_pass() -> None:
    scores = np.concatenate([np.linspace(0, 0.4, 1_000), np.linspace(0, 0.9, 1_000)])
    sources = np.repeat(["ordinary", "tweets"], 1_000)
    limit = moderation_text_measures.bound(scores, sources)
    for source, share in (("ordinary", 0.0005), ("tweets", 0.03)):
        assert (scores[sources == source] > limit).mean() <= share
    assert limit == pytest.approx(0.9 * (1 - 0.03), abs=0.002)


def folds(light: np.ndarray) -> tuple[Labelled, Folds]:
    """400 texts of `labelled`, a quarter of them hateful, and as many ordinary ones. light: logits of hate speech of each, (800,)."""
    n = 800
    labels = np.full((n, len(CATEGORIES)), -1, np.int8)
    labels[:, 0] = [1] * 100 + [0] * 700
    sources = np.repeat(["labelled", "ordinary"], 400)
    logits = np.full(labels.shape, -9.0)
    logits[:, 0] = light
    rows = np.arange(100)
    hidden = Disguised(rows, np.full((100, len(CATEGORIES)), -9.0), logits[:100])
    none = np.full(labels.shape, np.nan)
    return Labelled([""] * n, sources, labels), Folds(
        np.arange(n) % 5, logits, none, {"TF-IDF + LR": [logits]}, {"hidden": hidden}
    )


def test_a_category_that_is_told_apart_is_covered_and_one_without_labels_is_not() -> None:
    draw = np.random.default_rng(2)
    data, held_out = folds(np.concatenate([draw.normal(3, 1, 100), draw.normal(-3, 1, 700)]))
    report = moderation_text_measures.report(data, held_out, held_out.light)
    assert "hate_speech" in report.coverage
    scores = report.measured["hate_speech"]["labelled"]
    assert scores.recall is not None and scores.recall > 0.9
    recalls = moderation_text_measures.recall_in_disguise(data, held_out, report)
    assert recalls["hidden"]["hate_speech"][0] == 0.0
    assert recalls["hidden"]["hate_speech"][1] == recalls["as they were written"]["hate_speech"][1] > 0.9
    assert moderation_text_measures.false_flags(held_out.light[400:], report) <= 0.001


def test_a_category_that_is_not_told_apart_is_not_covered() -> None:
    data, held_out = folds(np.random.default_rng(2).normal(size=800))
    report = moderation_text_measures.report(data, held_out, held_out.light)
    assert report.coverage == ()
    assert "hate_speech" in report.not_covered_because
