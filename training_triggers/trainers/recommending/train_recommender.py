"""Trains recommendation: towers for candidates, a ranker over them, neighbours and index; one model folder.

First on all but the last fifth of each user's events, of which the ranker then learns: its features know nothing of its labels. Then
the towers are trained on with all events, and the neighbours counted again, as they will serve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from inference_workers.networks.recommendation import item_tokens
from inference_workers.networks.recommendation.histories import FeatureColumns
from training_triggers.trainers import export
from training_triggers.trainers.recommending import neighbour_counts, ranker_training, tower_training
from training_triggers.trainers.recommending.interactions import Interactions
from training_triggers.trainers.recommending.ranker_training import RankerSettings
from training_triggers.trainers.recommending.tower_training import TowerSettings
from training_triggers.trainers.recommending.version_folder import TrainedRecommender, item_vectors

NAME = "recommendation"
MOST_TOKENS = 20_000
LEAST_OFTEN = 2  # items that a token must have
MOST_VALUES = 64  # of a feature that is a text
Progress = Callable[[str], None]


@dataclass(frozen=True)
class RecommendationSettings:
    """last: share of each user's events that the ranker learns from. times: in it, from 0 to 1, at which lists are made. again: epochs
    of the towers with all events. neighbours: of each item."""

    towers: TowerSettings = field(default_factory=TowerSettings)
    ranker: RankerSettings = field(default_factory=RankerSettings)
    last: float = 0.2
    times: tuple[float, ...] = (0.0, 0.3, 0.6)
    again: int = 3
    again_rate: float = 1e-3
    neighbours: int = 128


def train(data: Interactions, settings: RecommendationSettings, seed: int, say: Progress) -> TrainedRecommender:
    data = data.merged()
    columns = feature_columns(data)
    vocabulary = vocabulary_of(data)
    tokens = item_tokens.numbered(_tokens(data), {token: number for number, token in enumerate(vocabulary, 1)})
    before, _ = data.split(settings.last)
    towers = tower_training.train(before, tokens, columns, settings.towers, seed, say)
    vectors, _ = item_vectors(towers, tokens)
    neighbours = neighbour_counts.count(before, settings.neighbours)
    lists = ranker_training.joined(
        [
            ranker_training.lists(
                towers,
                vectors,
                neighbours,
                *data.split(settings.last * (1 - time)),
                columns,
                settings.towers.history,
                settings.ranker if time == 0 else replace(settings.ranker, unknown=0.0),
                np.random.default_rng(seed),
            )
            for time in settings.times
        ]
    )
    say(f"ranker: {len(lists.rows)} lists")
    ranker = ranker_training.train(lists, vectors, settings.ranker, seed, say)
    more = replace(settings.towers, epochs=settings.again, rate=settings.again_rate)
    towers = tower_training.train(data, tokens, columns, more, seed, say, towers)
    export.rounded(towers)
    export.rounded(ranker)
    vectors, _ = item_vectors(towers, tokens)
    some = np.flatnonzero(np.diff(data.starts) > 0)[:500]
    arrays = ranker_training.user_arrays(data, some, settings.towers.history)
    users = ranker_training.embed(towers, vectors, arrays, columns.encode([data.profiles[user] for user in some]))
    neighbours = neighbour_counts.count(data, settings.neighbours)
    return TrainedRecommender(towers, ranker, neighbours, columns, tokens, vocabulary, settings.towers.history, data, users)


def _tokens(data: Interactions) -> list[list[str]]:
    return [item_tokens.tokens(*one) for one in zip(data.items.titles, data.items.attributes, strict=True)]


def vocabulary_of(data: Interactions) -> tuple[str, ...]:
    """The most frequent tokens, in order."""
    often = Counter(token for tokens in _tokens(data) for token in tokens)
    return tuple(sorted(token for token, n in often.most_common(MOST_TOKENS) if n >= LEAST_OFTEN))


def feature_columns(data: Interactions) -> FeatureColumns:
    """Of everything that profiles hold."""
    numbers, texts = dict[str, tuple[float, float]](), dict[str, tuple[str, ...]]()
    for name in sorted({name for profile in data.profiles for name in profile}):
        values = [profile[name] for profile in data.profiles if name in profile]
        if all(isinstance(value, int | float) for value in values):
            there = np.array(values, np.float64)
            numbers[name] = (float(there.mean()), max(1e-6, float(there.std())))
        else:
            texts[name] = tuple(sorted(value for value, _ in Counter(map(str, values)).most_common(MOST_VALUES)))
    return FeatureColumns(numbers, texts)
