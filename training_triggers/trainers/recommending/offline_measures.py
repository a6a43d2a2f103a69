"""Measures of recommendation over full rankings, without sampled negatives (Krichene and Rendle 2020): of a model folder, as it serves.

NDCG, recall: binary relevance, every later event counts; items that the user had before are never recommended; the ideal list is as
long as the user's later items or the cut, whichever is less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from inference_workers.networks.recommendation.histories import KINDS
from inference_workers.recommending.recommender import MAX_HISTORY, Recommender, UserHistory
from training_triggers.trainers.recommending.interactions import Interactions

AT = 20
RETRIEVAL_AT = (100, 200, 1000)
Rows = npt.NDArray[np.integer]


@dataclass(frozen=True)
class RecommendationScores:
    """Means over users. coverage: share of the catalogue that at least one user is shown. popularity_bias: mean popularity of shown
    items over that of the items that users took; 1 is none."""

    users: int
    ndcg: float
    recall: float
    coverage: float
    popularity_bias: float
    retrieval_recall: dict[int, float]

    def named(self) -> dict[str, float]:
        flat = {f"retrieval_recall_{at}": value for at, value in self.retrieval_recall.items()}
        return {name: value for name, value in asdict(self).items() if name != "retrieval_recall"} | flat


def taken_later(train: Interactions, test: Interactions) -> dict[int, Rows]:
    """int64 (n,): the test items of each user who has some, without those that the user had in training."""
    found: dict[int, Rows] = {}
    for user in np.unique(test.user).tolist():
        had = train.item[train.starts[user] : train.starts[user + 1]]
        later = np.setdiff1d(test.item[test.starts[user] : test.starts[user + 1]], had)
        if len(later):
            found[user] = later
    return found


def scores(
    shown: Sequence[Rows], retrieved: Sequence[Rows], later: Sequence[Rows], popularity: npt.NDArray[np.floating]
) -> RecommendationScores:
    """shown, retrieved, later: of each user (n,), the ranked items, the retrieved ones in their order, and the items that the user took.
    popularity: of all items (items,)."""
    discount = 1 / np.log2(np.arange(2, AT + 2))
    hits = [np.isin(some[:AT], wanted) for some, wanted in zip(shown, later, strict=True)]
    ideal = [discount[: len(wanted)].sum() for wanted in later]
    ndcg = [(hit * discount[: len(hit)]).sum() / best for hit, best in zip(hits, ideal, strict=True)]
    recall = [hit.sum() / len(wanted) for hit, wanted in zip(hits, later, strict=True)]
    every = np.concatenate([some[:AT] for some in shown])
    taken = float(np.mean([popularity[wanted].mean() for wanted in later]))
    return RecommendationScores(
        users=len(later),
        ndcg=float(np.mean(ndcg)),
        recall=float(np.mean(recall)),
        coverage=len(np.unique(every)) / len(popularity),
        popularity_bias=float(popularity[every].mean()) / max(taken, 1e-9),
        retrieval_recall={
            at: float(np.mean([np.isin(wanted, some[:at]).mean() for some, wanted in zip(retrieved, later, strict=True)]))
            for at in RETRIEVAL_AT
        },
    )


def histories(data: Interactions, users: Sequence[int]) -> Iterator[tuple[UserHistory, set[str]]]:
    """What a request would carry right after the user's last event, and the items that the user had."""
    starts, ids = data.starts, data.items.ids
    for user in users:  # with the features of the last event, not of now
        part = slice(starts[user], starts[user + 1])
        items = [ids[row] for row in data.item[part]]
        ages = (data.time_s[part][-1:] - data.time_s[part])[-MAX_HISTORY:].tolist()
        kinds = [KINDS[kind] for kind in data.kind[part][-MAX_HISTORY:]]
        yield UserHistory(items[-MAX_HISTORY:], kinds, ages, data.known_last(user)), set(items)


def measure(
    recommender: Recommender, train: Interactions, test: Interactions, limit: int = 1000, at_once: int = 16
) -> RecommendationScores:
    """Both stages as they serve: `limit` candidates, all ranked."""
    later = taken_later(train, test)
    shown: list[Rows] = []
    retrieved: list[Rows] = []
    asked = list(histories(train, list(later)))
    for at in range(0, len(asked), at_once):
        users, had = [user for user, _ in asked[at : at + at_once]], [items for _, items in asked[at : at + at_once]]
        embeddings = recommender.embed(users)
        candidates = recommender.candidates(embeddings, limit, had)
        retrieved += candidates
        shown += [ranked.items for ranked in recommender.rank(users, embeddings, candidates)]
    return scores(shown, retrieved, list(later.values()), train.popularity())
