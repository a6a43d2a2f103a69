"""Measures of a classifier with their uncertainty: average precision, precision and recall, bootstrap intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

FOLDS = 5  # of the cross-validation of `moderation-text`
# By category, the precision for which the threshold of `moderation-text` is chosen.
TARGET_PRECISION = {
    "hate_speech": 0.65,
    "harassment": 0.95,
    "violence": 0.5,
    "sexual_content": 0.8,
    "self_harm": 0.8,
    "spam": 0.97,
}


@dataclass(frozen=True)
class CategoryScores:
    """One category on one source. Intervals are 95 %, percentile bootstrap over rows (Efron 1979), 500 resamples."""

    n: int
    positives: int
    prevalence: float
    auprc: float
    auprc_low: float
    auprc_high: float
    precision: float | None
    recall: float | None
    flagged_share_of_negatives: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class CrossValidation:
    """Cross-validation of `moderation-text`: by category and source, the scores of our model and the reference's average
    precision. coverage: categories that the model answers. not_covered_because: the reason for each of the others."""

    measured: dict[str, dict[str, CategoryScores]]
    reference_auprc: dict[str, dict[str, float]]
    thresholds: dict[str, float]
    coverage: tuple[str, ...]
    not_covered_because: dict[str, str]


def average_precision(truth: Flags, scores: Floats) -> float:
    """Area under the precision-recall curve, as the step sum; ties share one threshold. NaN without positives. truth: bool (n,);
    scores: float (n,)."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(truth[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    if hits[-1] == 0:
        return float("nan")
    precision = hits[last] / (last + 1)
    recall = hits[last] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def measure(truth: Flags, scores: Floats, flagged: Flags, seed: int = 0, resamples: int = 500) -> CategoryScores:
    """truth, flagged: bool (n,); scores: float (n,). `flagged` is the decision at the operating threshold."""
    random = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        rows = random.integers(0, len(truth), len(truth))
        if truth[rows].any():
            draws.append(average_precision(truth[rows], scores[rows]))
    low, high = np.percentile(draws, [2.5, 97.5]) if draws else (float("nan"), float("nan"))
    hits = int((flagged & truth).sum())
    return CategoryScores(
        n=len(truth),
        positives=int(truth.sum()),
        prevalence=float(truth.mean()),
        auprc=average_precision(truth, scores),
        auprc_low=float(low),
        auprc_high=float(high),
        precision=hits / int(flagged.sum()) if flagged.any() else None,
        recall=hits / int(truth.sum()) if truth.any() else None,
        flagged_share_of_negatives=float(flagged[~truth].mean()) if (~truth).any() else 0.0,
    )


def threshold_for(
    truth: Flags, scores: Floats, groups: npt.NDArray[np.str_], precision: float, limits: dict[str, float]
) -> float | None:
    """The lowest threshold with at least this precision, and with at most the share `limits[group]` of each group's negatives
    above it.

    truth: bool (n,); scores: float (n,); groups: name of the group of each, (n,). None if no threshold reaches the precision with
    at least ten hits.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    good = (hits / np.arange(1, len(order) + 1) >= precision) & (hits >= min(10, int(truth.sum())))
    if not good.any() or not truth.any():
        return None
    chosen = float(scores[order][np.flatnonzero(good)[-1]])
    for group, limit in limits.items():
        negatives = np.sort(scores[(groups == group) & ~truth])
        if len(negatives):
            chosen = max(chosen, float(negatives[min(len(negatives) - 1, int(np.ceil(len(negatives) * (1 - limit))))]))
    return min(chosen, 0.99)
