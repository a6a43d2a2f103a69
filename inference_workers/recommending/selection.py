"""Chooses an answer from ranked candidates: diversity, business rules and exploration. Pure.

Diversity is maximal marginal relevance (Carbonell and Goldstein 1998): place by place the candidate with the largest difference of
relevance and likeness to what was chosen before. Exploration fills a share of the places with a candidate drawn uniformly; the
probability of each choice is returned, so that off-policy estimates from the log are unbiased.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
MOST_LIKE = 1.001  # a cosine, with room for rounding


@dataclass(frozen=True, slots=True)
class SelectionRules:
    """diversity, explore_share: 0 to 1. max_per_category: 0 for no limit."""

    diversity: float = 0.0
    max_per_category: int = 0
    explore_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Selected:
    """One place of an answer. candidate: its number among the candidates. propensity: probability of this choice, given the places
    before."""

    candidate: int
    propensity: float
    explored: bool


def select(
    scores: Floats,
    embeddings: Floats,
    categories: Sequence[str],
    limit: int,
    rules: SelectionRules,
    random: np.random.Generator,
) -> list[Selected]:
    """At most `limit` candidates, in the order of the answer; fewer if the rules leave no more. scores: (n,). embeddings: (n, width),
    unit length. categories: of each candidate; read only if the rules have a limit of categories."""
    n = len(scores)
    worth = (1 - rules.diversity) * _scaled(scores)  # minus infinity once it may not be chosen
    near = _eligible(worth, limit, rules)
    near_embeddings, likeness = embeddings[near], np.zeros(len(near), np.float32)  # to the most similar item that was chosen
    kinds = np.unique(np.asarray(categories, dtype=np.str_), return_inverse=True)[1] if rules.max_per_category else None
    chosen: list[Selected] = []
    left = n
    for _ in range(min(limit, n)):
        if not left:
            break
        best = int(near[np.argmax(worth[near] - rules.diversity * likeness)])
        drawn = rules.explore_share > 0 and random.random() < rules.explore_share
        taken = int(random.choice(np.flatnonzero(worth > -np.inf))) if drawn else best
        propensity = rules.explore_share / left + (1 - rules.explore_share) * (taken == best)
        chosen.append(Selected(taken, propensity, taken != best))
        worth[taken] = -np.inf
        left -= 1
        if rules.diversity:
            np.maximum(likeness, near_embeddings @ embeddings[taken], out=likeness)
        if kinds is not None and sum(kinds[one.candidate] == kinds[taken] for one in chosen) >= rules.max_per_category:
            worth[kinds == kinds[taken]] = -np.inf
            left = int(np.count_nonzero(worth > -np.inf))
    return chosen


def _eligible(worth: Floats, limit: int, rules: SelectionRules) -> npt.NDArray[np.intp]:
    """Places of the candidates that can be the best at some step. An item loses at most `diversity`, and of the `limit` items of the
    highest worth one is left at each step, unless a limit of categories takes others out."""
    if rules.max_per_category or limit >= len(worth):
        return np.arange(len(worth))
    least = np.partition(worth, -limit)[-limit] - rules.diversity * MOST_LIKE
    return np.flatnonzero(~(worth < least))  # all of them if one is not a number


def _scaled(scores: Floats) -> Floats:
    """To 0 … 1, so that relevance and cosine are of one size."""
    if not len(scores):
        return scores
    low, high = float(scores.min()), float(scores.max())
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)
