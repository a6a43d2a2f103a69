"""Trains recommendation: towers for candidates, a ranker over them, neighbours and index; one model folder.

First on all but the last fifth of each user's events, of which the ranker then learns: its features know nothing of its labels. Then
the towers are trained on with all events, and the neighbours counted again, as they will serve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from inference_workers.networks.recommendation import item_tokens
from inference_workers.networks.recommendation.histories import FeatureColumns
from schemas.errors import BadSettings
from training_triggers.trainers import export
from training_triggers.trainers.recommending import neighbour_counts, ranker_training, tower_training
from training_triggers.trainers.recommending.interactions import Interactions
from training_triggers.trainers.recommending.training_options import RecommendationSettings
from training_triggers.trainers.recommending.version_folder import TrainedRecommender, item_vectors

NAME = "recommendation"
MOST_TOKENS = 20_000
LEAST_OFTEN = 2  # items that a token must have
MOST_VALUES = 64  # of a feature that is a text
Progress = Callable[[str], None]


def train(data: Interactions, settings: RecommendationSettings, seed: int, say: Progress) -> TrainedRecommender:
    """Raises BadSettings if there are too few events."""
    data = data.merged()
    times = [time for time in settings.times if len(ranker_training.askable(*data.split(settings.last * (1 - time))))]
    if not times:
        raise BadSettings(
            f"{data.name} has too few events: nobody has {round(1 / settings.last)}, of which the last can be a label"
        )
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
            for time in times
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
    users = ranker_training.embed(towers, vectors, arrays, columns.encode([data.known_last(user) for user in some.tolist()]))
    neighbours = neighbour_counts.count(data, settings.neighbours)
    return TrainedRecommender(towers, ranker, neighbours, columns, tokens, vocabulary, settings, seed, data, users)


def _tokens(data: Interactions) -> list[list[str]]:
    return [item_tokens.tokens(*one) for one in zip(data.items.titles, data.items.attributes, strict=True)]


def vocabulary_of(data: Interactions) -> tuple[str, ...]:
    """The most frequent tokens, in order."""
    often = Counter(token for tokens in _tokens(data) for token in tokens)
    return tuple(sorted(token for token, n in often.most_common(MOST_TOKENS) if n >= LEAST_OFTEN))


def feature_columns(data: Interactions) -> FeatureColumns:
    """Of everything that profiles and the feature store hold."""
    numbers, texts = dict[str, tuple[float, float]](), dict[str, tuple[str, ...]]()
    for name in sorted({name for profile in data.profiles for name in profile}):
        values = [profile[name] for profile in data.profiles if name in profile]
        if all(isinstance(value, int | float) for value in values):
            there = np.array(values, np.float64)
            numbers[name] = (float(there.mean()), max(1e-6, float(there.std())))
        else:
            texts[name] = tuple(sorted(value for value, _ in Counter(map(str, values)).most_common(MOST_VALUES)))
    for name, known in zip(data.feature_names, () if data.at_events is None else data.at_events.T, strict=True):
        there = known[known >= 0].astype(np.float64)  # NaN is not
        if len(there):
            numbers[name] = (float(there.mean()), max(1e-6, float(there.std())))
    return FeatureColumns(numbers, texts)
