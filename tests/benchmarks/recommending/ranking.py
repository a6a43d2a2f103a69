"""How well both stages rank MovieLens 100k, as they serve, beside other methods on the same split."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inference_workers.models.folder import open_folder
from inference_workers.recommending.recommender import Recommender
from tests.benchmarks.recommending import baselines
from tests.benchmarks.worker import figure, say
from training_triggers.trainers.recommending import train_recommender, training_options, version_folder
from training_triggers.trainers.recommending.event_readers import movielens
from training_triggers.trainers.recommending.interactions import Interactions
from training_triggers.trainers.recommending.offline_measures import (
    RETRIEVAL_AT,
    RecommendationScores,
    measure,
    scores,
    taken_later,
)

LAST = 0.2
OURS = "two stages"
GOAL_NDCG = 0.22
SHOWN = ("ndcg", "recall", "coverage", "popularity_bias")
TITLES = {"ndcg": "NDCG@20", "recall": "Recall@20", "coverage": "coverage@20", "popularity_bias": "popularity bias@20"}
READ_EARLIER = {"popularity": 0.122, "item-kNN": 0.202, "ALS, 32 factors": 0.207}  # NDCG@20 on this split


def of_method(name: str, train: Interactions, test: Interactions, seed: int) -> RecommendationScores:
    predicted = baselines.METHODS[name](train, seed)
    predicted[train.user, train.item] = -np.inf
    later = taken_later(train, test)
    had = np.isinf(predicted).sum(axis=1)
    shown = [np.argsort(-predicted[user], kind="stable")[: len(predicted[user]) - had[user]] for user in later]
    return scores(shown, shown, list(later.values()), train.popularity())


def of_ours(train: Interactions, test: Interactions, seed: int) -> RecommendationScores:
    """The folder that would be deployed, loaded and asked as a worker does."""
    trained = train_recommender.train(train, training_options.RecommendationSettings(), seed, lambda _: None)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        version_folder.write(trained, folder, str(seed), train_recommender.NAME, lambda _: "# measured\n")
        return measure(Recommender.load(open_folder(folder)), train, test)


def bench(data: Path, seeds: Sequence[int]) -> list[dict[str, Any]]:
    train, test = movielens(data).merged().split(LAST)
    found: dict[str, list[RecommendationScores]] = {}
    for name in baselines.METHODS:
        found[name] = [of_method(name, train, test, seed) for seed in (seeds if name in baselines.SEEDED else seeds[:1])]
        say(f"  {name}: NDCG@20 {_mean(found[name], 'ndcg'):.4f}")
    found[OURS] = []
    for seed in seeds:
        found[OURS].append(of_ours(train, test, seed))
        say(f"  two stages, seed {seed}: NDCG@20 {found[OURS][-1].ndcg:.4f}")
    return figures(found)


def _mean(many: Sequence[RecommendationScores], name: str) -> float:
    return statistics.mean(one.named()[name] for one in many)


def figures(found: Mapping[str, Sequence[RecommendationScores]]) -> list[dict[str, Any]]:
    """The best of the others is the reference of NDCG and recall."""
    made = [_figure(found, name, measure_name) for name in found for measure_name in SHOWN]
    for at in RETRIEVAL_AT:
        values = [one.retrieval_recall[at] for one in found[OURS]]
        made.append(figure(f"Recall@{at} of retrieval", statistics.mean(values), "", "printed", None))
    return made


def _figure(found: Mapping[str, Sequence[RecommendationScores]], name: str, of: str) -> dict[str, Any]:
    values = [one.named()[of] for one in found[name]]
    more: dict[str, Any] = {"least": min(values), "most": max(values), "seeds": len(values)}
    goal, met = "printed", None
    if name == OURS and of in ("ndcg", "recall"):
        best = max((_mean(many, of), other) for other, many in found.items() if other != OURS)
        more |= {"reference": best[1], "reference_value": round(best[0], 4), "ratio": round(statistics.mean(values) / best[0], 3)}
        if of == "ndcg":
            goal, met = f"{GOAL_NDCG}, and above all others", statistics.mean(values) >= max(GOAL_NDCG, best[0])
    if of == "ndcg" and name in READ_EARLIER:
        more["read_earlier"] = READ_EARLIER[name]
    return figure(f"{TITLES[of]}, {name}", statistics.mean(values), "", goal, met, **more)
