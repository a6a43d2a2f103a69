"""Neighbours of items, histories as arrays and tokens of items: what the trainer and the worker share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from inference_workers.networks.recommendation import histories, item_tokens
from inference_workers.networks.recommendation.histories import FeatureColumns
from inference_workers.networks.recommendation.neighbours import FEATURES, OFTEN
from tests.support.toy_shop import toy_shop
from training_triggers.trainers.recommending.neighbour_counts import SHRINK, count


def test_weights_are_counts_by_distance_over_the_roots_of_popularity() -> None:
    data = toy_shop(users=12, events=9)
    near = count(data, keep=len(data.items.ids))
    expected = np.zeros((len(data.items.ids),) * 2)
    for start, end in zip(data.starts[:-1], data.starts[1:], strict=True):
        mine = data.item[start:end]
        for at, first in enumerate(mine):
            for distance, second in enumerate(mine[at + 1 :], 1):
                expected[first, second] += distance**-0.5
    scale = (np.bincount(data.item, minlength=len(expected)) + SHRINK) ** -0.5
    expected = expected * scale[:, None] * scale
    np.fill_diagonal(expected, 0)
    for rows, weights, wanted in (
        (near.after, near.after_weights, expected),
        (near.beside, near.beside_weights, expected + expected.T),
    ):
        kept = np.zeros_like(expected)
        for item, (some, of_some) in enumerate(zip(rows, weights, strict=True)):
            kept[item, some[some >= 0]] = of_some[some >= 0]
        assert np.allclose(kept, wanted, atol=1e-3)


def test_sums_over_a_history_weigh_new_events_more() -> None:
    data = toy_shop(users=40)
    near = count(data, keep=20)
    history, candidates = np.array([-1, 3, 50, 7]), np.array([9, 3, 100, 7, 50])
    scores = near.scores(history, candidates)
    assert scores.shape == (5, len(FEATURES))
    for column in range(3):
        for place, candidate in enumerate(candidates):
            total = 0.0
            for step, row in enumerate([7, 50, 3]):
                decay = (float(step == 0), 2 / (step + 2), 0.5 ** (step / 20))[column]
                total += decay * float(near.after_weights[row][near.after[row] == candidate].sum())
            assert scores[place, column] == pytest.approx(math.log1p(OFTEN * total), abs=1e-4)


def test_items_past_the_table_and_empty_histories_have_no_neighbours() -> None:
    near = count(toy_shop(users=10), keep=5)
    assert not near.scores(np.array([10**6, -1]), np.array([0, 1])).any()
    assert not near.scores(np.zeros(0, np.int64), np.array([0])).any()
    assert near.scores(np.array([1]), np.zeros(0, np.int64)).shape == (0, len(FEATURES))


def test_histories_are_cut_to_the_newest_and_measured_from_it() -> None:
    rows = [np.arange(5), np.zeros(0, np.int64)]
    kinds = [np.array([1, 1, 3, 4, 1]), np.zeros(0, np.int64)]
    ages = [np.array([9000.0, 4000.0, 1000.0, 1000.0, 500.0]), np.zeros(0)]
    made = histories.arrays(rows, kinds, ages, most=3)
    assert made.rows.tolist() == [[2, 3, 4], [-1, -1, -1]]
    assert made.places[0, 2] == 1 and (np.diff(made.places[0]) < 0).all() and not made.places[1].any()
    assert made.ages[0, 2] == 0 and made.ages[0, 0] == histories.age_buckets(np.array([500.0]))[0]
    assert histories.arrays([], [], [], most=3).rows.shape == (0, 1)


def test_a_view_a_cart_and_a_purchase_of_an_item_are_one_choice() -> None:
    assert histories.last_of_each(np.array([1, 1, 2, 1, 1])).tolist() == [False, True, True, False, True]
    assert histories.last_of_each(np.zeros(0)).tolist() == []


def test_features_that_are_missing_or_wrong_count_as_unknown() -> None:
    columns = FeatureColumns({"age": (40.0, 10.0)}, {"country": ("DE", "FR")})
    users: list[Mapping[str, float | str]] = [
        {"age": 50.0, "country": "FR"},
        {"age": -1, "country": "XX"},
        {"age": math.nan},
        {"age": "old", "country": 3.0},
        {},
    ]
    assert columns.encode(users).tolist() == [[1, 1, 0, 1], *[[0, 0, 0, 0]] * 4]
    assert [columns.known(user) for user in users] == [True, False, False, False, False]
    assert FeatureColumns.from_config(columns.as_config()) == columns


def test_tokens_are_attributes_then_words() -> None:
    found = item_tokens.tokens(
        "Enamel Mug, enamel", {"price_cents": 2048.0, "category": "Kitchen", "genre": ["A", "B"], "x": math.nan}
    )
    assert found == ["category=kitchen", "genre=a", "genre=b", "price_cents~22", "title:enamel", "title:mug"]
    assert len(item_tokens.tokens(" ".join(map(str, range(500))), {})) == item_tokens.MAX_TOKENS
