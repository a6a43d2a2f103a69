"""What the card of `moderation-text` says: thresholds and scores by category and source, recall on words in disguise, and how many
ordinary texts are flagged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training_triggers.trainers.evaluation import (
    FOLDS,
    TARGET_PRECISION,
    CategoryScores,
    CrossValidation,
    Flags,
    Floats,
    average_precision,
    measure,
    threshold_for,
)
from training_triggers.trainers.moderating.moderation_text_data import CATEGORIES, SOURCES, Labelled
from training_triggers.trainers.moderating.moderation_text_folds import Disguised, Folds

# The source whose precision counts for a threshold.
MAIN_SOURCE = dict.fromkeys(CATEGORIES, "labelled") | {"harassment": "tweets", "spam": "sms"}
# The share of each other source's negatives that may be flagged.
MAX_FALSE_SHARE = {"tweets": 0.03, "sms": 0.005, "labelled": 0.02, "ordinary": 0.0005}
DEFAULT_THRESHOLD = 0.7
LIGHT, JOINED = "moderation-text", "moderation-minilm"


@dataclass(frozen=True)
class Measured:
    """light, joined: of `moderation-text` and `moderation-minilm`; the latter None if MiniLM was not there. compared: AUPRC on `labelled`
    by the name of the model and the category. disguised: recall of `moderation-text` by way of writing and category, as the texts
    are and undisguised. false_flags: share of ordinary texts that are flagged, by the model's name and the kind of text, with
    their number."""

    light: CrossValidation
    joined: CrossValidation | None
    compared: Mapping[str, Mapping[str, float]]
    disguised: Mapping[str, Mapping[str, tuple[float, float]]]
    false_flags: Mapping[str, Mapping[str, tuple[float, int]]]


def sigmoid(logits: npt.NDArray[Any]) -> Floats:
    """Of any shape."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -500, 500))), np.float64)


def report(data: Labelled, folds: Folds, logits: Floats) -> CrossValidation:
    """logits: held-out ones of a model, float (n, categories), NaN where it did not judge a text."""
    measured: dict[str, dict[str, CategoryScores]] = {}
    reference: dict[str, dict[str, float]] = {}
    thresholds: dict[str, float] = {}
    because: dict[str, str] = {}
    for i, category in enumerate(CATEGORIES):
        judged = (data.labels[:, i] >= 0) & np.isfinite(logits[:, i])
        truth, scores, sources = data.labels[judged, i] == 1, sigmoid(logits[judged, i]), data.sources[judged]
        flagged, threshold = _flagged(category, truth, scores, sources, folds.fold_of[judged])
        thresholds[category] = DEFAULT_THRESHOLD if threshold is None else round(threshold, 4)
        measured[category], reference[category] = {}, {}
        for source in SOURCES:
            inside = sources == source
            if not inside.any():
                continue
            measured[category][source] = measure(truth[inside], scores[inside], flagged[inside])
            if truth[inside].any():
                others = [of[judged, i][inside] for fits in folds.references.values() for of in fits]
                whole = [of for of in others if np.isfinite(of).all()]
                reference[category][source] = max(average_precision(truth[inside], of) for of in whole)
        if why := _not_covered(category, measured[category].get(MAIN_SOURCE[category]), threshold):
            because[category] = why
    coverage = tuple(category for category in CATEGORIES if category not in because)
    return CrossValidation(measured, reference, thresholds, coverage, because)


def _not_covered(category: str, main: CategoryScores | None, threshold: float | None) -> str:
    """Why a category is not covered; empty if it is."""
    if main is None or not main.positives:
        return f"no text of {MAIN_SOURCE[category]} has its label"
    if main.auprc_low <= 2 * main.prevalence <= main.auprc_high:
        return (
            f"AUPRC {main.auprc:.3f} ({main.auprc_low:.3f}–{main.auprc_high:.3f}) is not told apart from "
            f"twice the prevalence, {2 * main.prevalence:.3f}"
        )
    if threshold is None:
        return f"no threshold reaches a precision of {TARGET_PRECISION[category]} on texts it did not see"
    return ""


def _flagged(
    category: str, truth: Flags, scores: Floats, sources: npt.NDArray[np.str_], folds: npt.NDArray[np.int64]
) -> tuple[Flags, float | None]:
    """Which texts are flagged, each by a threshold chosen on the other folds, bool (n,); and the threshold chosen on all of
    them."""

    def chosen(rows: Flags) -> float | None:
        main = rows & (sources == MAIN_SOURCE[category])
        found = threshold_for(truth[main], scores[main], sources[main], TARGET_PRECISION[category], {})
        if found is None:
            return None
        negatives = rows & ~truth & (sources != MAIN_SOURCE[category])
        return max(found, bound(scores[negatives], sources[negatives]))

    flagged = np.zeros(len(truth), np.bool_)
    for fold in range(FOLDS):
        threshold = chosen(folds != fold)
        flagged[folds == fold] = scores[folds == fold] > (DEFAULT_THRESHOLD if threshold is None else threshold)
    return flagged, chosen(np.ones(len(truth), np.bool_))


def bound(scores: Floats, sources: npt.NDArray[np.str_]) -> float:
    """The lowest threshold that at most the share MAX_FALSE_SHARE of the negatives of each source pass. scores, sources: of negatives,
    (n,)."""
    limits = [0.0]
    for source, share in MAX_FALSE_SHARE.items():
        ordered = np.sort(scores[sources == source])[::-1]
        if len(ordered):
            limits.append(float(ordered[int(share * len(ordered))]))
    return max(limits)


def compared(data: Labelled, folds: Folds) -> dict[str, dict[str, float]]:
    """AUPRC on `labelled`, by the name of the model and the category. Of a reference the best fit counts."""
    models = {**folds.references, LIGHT: [folds.light], JOINED: [folds.joined]}
    found: dict[str, dict[str, float]] = {}
    for name, of_strengths in models.items():
        for i, category in enumerate(CATEGORIES):
            inside = (data.sources == "labelled") & (data.labels[:, i] >= 0)
            truth = data.labels[inside, i] == 1
            scores = [of[inside, i] for of in of_strengths if np.isfinite(of[inside, i]).all()]
            if truth.any() and scores:
                found.setdefault(name, {})[category] = max(average_precision(truth, of) for of in scores)
    return found


def recall_in_disguise(data: Labelled, folds: Folds, light: CrossValidation) -> dict[str, dict[str, tuple[float, float]]]:
    """Held-out recall on positives of `labelled` at the thresholds, by way of writing and covered category: as the texts are, and
    undisguised. The first way is how they were written."""
    rows = next(iter(folds.disguised.values())).rows
    ways = {"as they were written": Disguised(rows, folds.light[rows], folds.light[rows]), **folds.disguised}
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for way, of in ways.items():
        for category in light.coverage:
            i = CATEGORIES.index(category)
            positive = data.labels[of.rows, i] == 1
            if positive.any():
                both = (sigmoid(logits[positive, i]) > light.thresholds[category] for logits in (of.as_they_are, of.undisguised))
                as_they_are, undisguised = (float(flags.mean()) for flags in both)
                found.setdefault(way, {})[category] = as_they_are, undisguised
    return found


def false_flags(logits: npt.NDArray[Any], of: CrossValidation) -> float:
    """The share of texts that are flagged by any covered category. logits: float (n, categories)."""
    limits = np.array([of.thresholds[category] if category in of.coverage else 1.0 for category in CATEGORIES])
    return float((sigmoid(logits) > limits).any(axis=1).mean())
