"""Trains the ranker: of the candidates that the towers found for a user at a time, those that the user took later must come first.

Towers and neighbours were made from events before that time, and the lists are of events after it, so that no feature knows its
label. The loss is the softmax over a list with several positives (Cao et al. 2007, ListNet).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from inference_workers.networks.recommendation import histories, ranking_features
from inference_workers.networks.recommendation.candidate_ranker import CandidateRanker
from inference_workers.networks.recommendation.histories import FeatureColumns, HistoryArrays
from inference_workers.networks.recommendation.neighbours import Neighbours
from training_triggers.trainers.recommending.interactions import KIND_WEIGHTS, Interactions
from training_triggers.trainers.recommending.softmax_losses import FAR
from training_triggers.trainers.recommending.tower_training import LEAST_STEPS, Progress, Towers

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
KIND_WEIGHT = np.array([KIND_WEIGHTS.get(kind, 0.0) for kind in histories.KINDS], np.float32)


@dataclass(frozen=True)
class RankerSettings:
    """candidates: of each list, from the towers. negatives: of those, in a step. unknown: share of users of whom a second list is made
    as if they had no history. without_counts: share of candidates whose neighbours and popularity are hidden, as those of new items
    are."""

    candidates: int = 1_000
    negatives: int = 150
    positives: int = 40
    epochs: int = 8
    batch: int = 32
    rate: float = 3e-3
    dropout: float = 0.2
    unknown: float = 0.1
    without_counts: float = 0.05
    most_lists: int = 20_000


@dataclass(frozen=True)
class Lists:
    """Of each list: the user's arrays and vector, rows of candidates (positives first), weights of the positives, and the dense
    features of each candidate. Candidates are padded with -1."""

    history: HistoryArrays
    features: Floats
    user: Floats
    rows: Ints
    weights: Floats
    dense: npt.NDArray[np.float16]


def user_arrays(data: Interactions, users: Ints, length: int) -> HistoryArrays:
    """At the newest event of each user. users: int64 (n,), numbers."""
    starts = data.starts
    parts = [slice(starts[user], starts[user + 1]) for user in users]
    ages = [data.time_s[part][-1:] - data.time_s[part] for part in parts]
    return histories.arrays([data.item[part] for part in parts], [data.kind[part] for part in parts], ages, length)


def embed(towers: Towers, vectors: Floats, arrays: HistoryArrays, features: Floats, at_once: int = 256) -> Floats:
    """float32 (n, width): the users' vectors."""
    found = []
    with torch.no_grad():
        for at in range(0, len(features), at_once):
            part = slice(at, at + at_once)
            inputs = (some[part] for some in (arrays.kinds, arrays.ages, arrays.places, features))
            found.append(
                towers.users(torch.from_numpy(gathered(vectors, arrays.rows[part])), *map(torch.from_numpy, inputs)).numpy()
            )
    return np.concatenate(found)


def gathered(vectors: Floats, rows: Ints) -> Floats:
    """float32 (*rows.shape, width); zeros at rows below 0. vectors: (items, width)."""
    found: Floats = vectors[rows]
    found[rows < 0] = 0
    return found


def askable(before: Interactions, after: Interactions) -> Ints:
    """int64 (n,): the users of whom a list can be made: they have events in both."""
    return np.flatnonzero((np.diff(before.starts) > 0) & (np.diff(after.starts) > 0))


def lists(
    towers: Towers,
    vectors: Floats,
    neighbours: Neighbours,
    before: Interactions,
    after: Interactions,
    columns: FeatureColumns,
    length: int,
    settings: RankerSettings,
    random: np.random.Generator,
) -> Lists:
    """before: what the features know. after: the labels; at least one user is askable. vectors: of all items, float32 (items,
    width)."""
    users = random.permutation(askable(before, after))[: settings.most_lists]
    strangers = users[: round(len(users) * settings.unknown)]
    both = np.concatenate([users, strangers])
    arrays = user_arrays(before, both, length)
    arrays.rows[len(users) :] = -1
    for some in (arrays.kinds, arrays.ages, arrays.places):
        some[len(users) :] = 0
    known = [before.known_last(user) for user in users.tolist()]  # strangers are known by their profiles alone
    features = columns.encode([*known, *(before.profiles[user] for user in strangers.tolist())])
    embedded = embed(towers, vectors, arrays, features)
    popularity = ranking_features.popularity_scores(before.popularity())
    made = [
        _list(
            embedded[i],
            vectors,
            arrays.rows[i],
            _seen(before, user),
            _taken(after, user, settings.positives),
            neighbours,
            popularity,
            settings,
        )
        for i, user in enumerate(both)
    ]
    rows, weights, dense = zip(*made, strict=True)
    return Lists(arrays, features, embedded, _padded(rows, -1), _padded(weights, 0.0), _padded(dense, 0.0).astype(np.float16))


def joined(parts: Sequence[Lists]) -> Lists:
    """Lists of several times, padded to the longest."""
    columns = {name: [getattr(part.history, name) for part in parts] for name in ("rows", "kinds", "ages", "places")}
    return Lists(
        HistoryArrays(**{name: _stacked(some, -1 if name == "rows" else 0, in_front=True) for name, some in columns.items()}),
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.user for part in parts]),
        _stacked([part.rows for part in parts], -1),
        _stacked([part.weights for part in parts], 0.0),
        _stacked([part.dense for part in parts], 0.0),
    )


def _stacked(parts: Sequence[npt.NDArray[Any]], value: float, in_front: bool = False) -> npt.NDArray[Any]:
    longest = max(part.shape[1] for part in parts)
    made = np.full((sum(map(len, parts)), longest, *parts[0].shape[2:]), value, parts[0].dtype)
    start = 0
    for part in parts:
        columns = slice(longest - part.shape[1], None) if in_front else slice(part.shape[1])
        made[start : start + len(part), columns] = part
        start += len(part)
    return made


def _seen(data: Interactions, user: int) -> Ints:
    return np.unique(data.item[data.starts[user] : data.starts[user + 1]])


def _taken(data: Interactions, user: int, most: int) -> tuple[Ints, Floats]:
    """Items that the user took later, each with the weight of its strongest event."""
    part = slice(data.starts[user], data.starts[user + 1])
    items, place = np.unique(data.item[part], return_inverse=True)
    weights = np.zeros(len(items), np.float32)
    np.maximum.at(weights, place, KIND_WEIGHT[data.kind[part]])
    best = np.argsort(-weights, kind="stable")[:most]
    return items[best], weights[best]


def _list(
    user: Floats,
    vectors: Floats,
    history: Ints,
    seen: Ints,
    taken: tuple[Ints, Floats],
    neighbours: Neighbours,
    popularity: Floats,
    settings: RankerSettings,
) -> tuple[Ints, Floats, Floats]:
    products = vectors @ user
    products[seen] = -np.inf
    fresh = ~np.isin(taken[0], seen)
    positives, weights = taken[0][fresh], taken[1][fresh]
    most = min(settings.candidates, len(products))
    near = np.argpartition(-products, most - 1)[:most]
    near = near[np.isfinite(products[near]) & ~np.isin(near, positives)]
    rows = np.concatenate([positives, near])
    dense = ranking_features.dense(vectors[rows] @ user, neighbours.scores(history, rows), popularity[rows])
    return rows, np.concatenate([weights, np.zeros(len(near), np.float32)]), dense


def _padded(parts: Sequence[npt.NDArray[Any]], value: float) -> npt.NDArray[Any]:
    longest = max(map(len, parts))
    made = np.full((len(parts), longest, *parts[0].shape[1:]), value, parts[0].dtype)
    for row, part in zip(made, parts, strict=True):
        row[: len(part)] = part
    return made


def train(ranked: Lists, vectors: Floats, settings: RankerSettings, seed: int, say: Progress) -> CandidateRanker:
    """vectors: of all items, float32 (items, width)."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    ranker = CandidateRanker(vectors.shape[1], len(ranking_features.NAMES), ranked.features.shape[1], settings.dropout)
    useful = np.flatnonzero((ranked.weights > 0).any(axis=1))
    optimizer = torch.optim.AdamW(ranker.parameters(), lr=settings.rate, weight_decay=0.01)
    steps = settings.epochs * (len(useful) // settings.batch + 1)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, max(LEAST_STEPS, steps), pct_start=0.1)
    ranker.train()
    for epoch in range(settings.epochs):
        order, total, parts = random.permutation(useful), 0.0, 0
        for at in range(0, len(order), settings.batch):
            loss = _loss(ranker, ranked, order[at : at + settings.batch], vectors, settings, random)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(ranker.parameters(), 1.0)
            optimizer.step()
            rate.step()
            total, parts = total + loss.item(), parts + 1
        say(f"ranker: epoch {epoch + 1} of {settings.epochs}, loss {total / max(1, parts):.3f}")
    return ranker.eval()


def _loss(
    ranker: CandidateRanker, ranked: Lists, some: Ints, vectors: Floats, settings: RankerSettings, random: np.random.Generator
) -> Tensor:
    positives = int((ranked.weights[some] > 0).sum(axis=1).max())
    rest = positives + random.permutation(ranked.rows.shape[1] - positives)[: settings.negatives]
    chosen = np.concatenate([np.arange(positives), rest])
    rows = ranked.rows[np.ix_(some, chosen)]
    weights = torch.from_numpy(ranked.weights[np.ix_(some, chosen)])
    dense = ranked.dense[np.ix_(some, chosen)].astype(np.float32)
    dense[random.random(rows.shape) < settings.without_counts, 1:] = 0
    history = ranked.history
    users = (part[some] for part in (history.kinds, history.ages, history.places, ranked.features))
    inputs = (ranked.user[some], gathered(vectors, history.rows[some]), *users, gathered(vectors, rows), dense)
    scores = ranker(*map(torch.from_numpy, inputs)).masked_fill(torch.from_numpy(rows < 0), FAR)
    partition = scores.logsumexp(dim=1, keepdim=True)
    share = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-9)
    loss: Tensor = ((partition - scores) * share).masked_fill(share == 0, 0.0).sum(dim=1).mean()
    return loss
