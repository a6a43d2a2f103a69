"""Choosing an answer from ranked candidates: what diversity, rules and exploration do, and whether propensities are true."""

from __future__ import annotations

from collections import Counter
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inference_workers.recommending import selection
from inference_workers.recommending.selection import SelectionRules, select

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
CATEGORIES = ["a", "a", "a", "b", "c"]
ALIKE = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 2]]


def chosen(limit: int, rules: SelectionRules, seed: int = 1) -> list[int]:
    return [one.candidate for one in select(SCORES, ALIKE, CATEGORIES, limit, rules, np.random.default_rng(seed))]


def test_without_rules_the_order_is_the_rankers() -> None:
    assert chosen(3, SelectionRules()) == [0, 1, 2]
    assert chosen(9, SelectionRules()) == [0, 1, 2, 3, 4]
    empty = np.zeros(0, np.float32)
    assert select(empty, np.zeros((0, 3), np.float32), [], 3, SelectionRules(0.5, 1, 0.5), np.random.default_rng(1)) == []


def test_diversity_prefers_what_is_unlike_those_above() -> None:
    assert chosen(3, SelectionRules(diversity=0.35)) == [0, 3, 1]
    assert chosen(3, SelectionRules(diversity=0.9)) == [0, 3, 4]


@given(
    scores=arrays(np.float32, st.integers(1, 60), elements=st.floats(-3, 3, width=16)),
    limit=st.integers(1, 70),
    rules=st.builds(
        SelectionRules, st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from([0, 1, 3]), st.sampled_from([0.0, 0.3])
    ),
    seed=st.integers(0, 10_000),
)
def test_no_candidate_that_could_be_chosen_is_left_out(scores: np.ndarray, limit: int, rules: SelectionRules, seed: int) -> None:
    """The same choices as where every candidate is compared at every step."""
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(len(scores), 4))
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    categories = [f"c{number}" for number in random.integers(0, 5, len(scores))]
    some = select(scores, embeddings, categories, limit, rules, np.random.default_rng(seed))
    with patch.object(selection, "_eligible", lambda worth, limit, rules: np.arange(len(worth))):
        assert some == select(scores, embeddings, categories, limit, rules, np.random.default_rng(seed))


@pytest.mark.filterwarnings("ignore:invalid value")
def test_scores_that_are_not_finite_end_nothing() -> None:
    scores = np.array([np.inf, 0.8, 0.7, 0.6, np.nan], np.float32)
    for some in (scores, scores[:4]):
        assert len(select(some, ALIKE[: len(some)], CATEGORIES, 1, SelectionRules(0.1), np.random.default_rng(1))) == 1


def test_no_category_has_more_than_its_number_of_places() -> None:
    assert chosen(5, SelectionRules(max_per_category=1)) == [0, 3, 4]
    assert chosen(4, SelectionRules(max_per_category=2)) == [0, 1, 3, 4]


@pytest.mark.parametrize("rules", [SelectionRules(explore_share=0.4), SelectionRules(0.3, 2, 0.4)], ids=str)
def test_propensities_are_the_frequencies_of_the_choices(rules: SelectionRules) -> None:
    random, runs = np.random.default_rng(5), 6_000
    seen: Counter[tuple[int, ...]] = Counter()
    told: dict[tuple[int, ...], float] = {}
    for _ in range(runs):
        answer = select(SCORES, ALIKE, CATEGORIES, 2, rules, random)
        first, second = (one.candidate for one in answer)
        seen[first, second] += 1
        told[first, second] = answer[0].propensity * answer[1].propensity
    assert len(seen) > 10
    assert sum(told.values()) == pytest.approx(1.0)
    for choice, expected in told.items():
        assert seen[choice] / runs == pytest.approx(expected, abs=0.02)


def test_an_item_that_the_ranker_would_have_chosen_is_not_called_explored() -> None:
    answers = [
        one
        for seed in range(300)
        for one in select(SCORES, ALIKE, CATEGORIES, 1, SelectionRules(explore_share=1.0), np.random.default_rng(seed))
    ]
    assert {one.explored for one in answers if one.candidate == 0} == {False}
    assert {one.explored for one in answers if one.candidate != 0} == {True}
