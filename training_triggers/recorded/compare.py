"""Compares two versions on the same recorded requests: where they differ, and which is right more often, in all and by class.
Pure.

Independent examples are counted: the parts of a request are one example, and so are requests with the same content (a campaign of
one text is one text). The first of such requests is the example.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from training_triggers.recorded import paired
from training_triggers.recorded.comparison import Accuracy, Answers, ClassAccuracy, Comparison, DecisionChanges, Unlabelled
from training_triggers.recorded.judgement import Bools
from training_triggers.recorded.pairing import AnswerPairs, pair
from training_triggers.recorded.truth import Truth, labels_of
from training_triggers.triggers import ks, psi

NEGLIGIBLE_DISTANCE = 0.1  # of Kolmogorov and Smirnov
RightByRequest = dict[str, tuple[bool, bool]]  # whether champion and candidate are right


def compare(
    champion: Answers, candidate: Answers, truth: Truth, parts: Mapping[str, Collection[str]] = MappingProxyType({})
) -> Comparison:
    """Compares the entries that both answered. parts: by name, request ids of subsets whose accuracy is given too; None if none
    of their requests is labelled. Raises ValueError if the versions have different outputs."""
    pairs = pair(champion, candidate, truth)
    right = _right_by_request(pairs)
    subsets = {name: pairs.of_requests(request_ids) for name, request_ids in parts.items()}
    return Comparison(
        entries=len(pairs.request_ids),
        agreement=_agreement(pairs),
        changed=_changed(pairs),
        drift=_drift(pairs, slice(None)),
        accuracy=_accuracy(right),
        time_ratio=_ratio(candidate.ms_per_entry, champion.ms_per_entry),
        size_ratio=_ratio(candidate.model_bytes, champion.model_bytes),
        parts={name: _accuracy({key: right[key] for key in right if key in request_ids}) for name, request_ids in parts.items()},
        agreements={name: _agreement(subset) for name, subset in subsets.items()},
        classes={name: _class_accuracy(pairs, column) for column, name in enumerate(pairs.names)},
        unlabelled=_unlabelled(pairs, champion, truth),
        strata={name: _unlabelled(subset, champion, truth) for name, subset in subsets.items()},
    )


def _changed(pairs: AnswerPairs) -> list[tuple[str, str, str, float, float]]:
    differ = np.argwhere(pairs.champion_decisions != pairs.candidate_decisions)
    change = np.abs(pairs.candidate_outputs - pairs.champion_outputs)[tuple(differ.T)]
    return [
        (
            pairs.request_ids[row],
            pairs.parts[row],
            pairs.names[column],
            float(pairs.champion_outputs[row, column]),
            float(pairs.candidate_outputs[row, column]),
        )
        for row, column in differ[np.argsort(-change, kind="stable")].tolist()
    ]


def _right_by_request(pairs: AnswerPairs) -> RightByRequest:
    """Of each example: a version is right if its decisions equal all labels of all parts."""
    sides = (pairs.champion_decisions, pairs.candidate_decisions)
    champion, candidate = (((pairs.labels < 0) | (pairs.labels == decided)).all(axis=1) for decided in sides)
    return _by_request(pairs, pairs.is_example, champion, candidate)


def _by_request(pairs: AnswerPairs, rows: Bools, champion: Bools, candidate: Bools) -> RightByRequest:
    right: RightByRequest = {}
    for row in np.flatnonzero(rows).tolist():
        earlier = right.get(pairs.request_ids[row], (True, True))
        right[pairs.request_ids[row]] = earlier[0] and bool(champion[row]), earlier[1] and bool(candidate[row])
    return right


def _accuracy(right: RightByRequest) -> Accuracy | None:
    both = np.array(list(right.values()), np.bool_).reshape(-1, 2)
    return accuracy_of(both[:, 0], both[:, 1])


def accuracy_of(champion: Bools, candidate: Bools) -> Accuracy | None:
    """champion, candidate: bool (n,), whether each is right on the same n independent examples. None if n is 0."""
    n = len(champion)
    if not n:
        return None
    gained, lost = int((candidate & ~champion).sum()), int((champion & ~candidate).sum())
    low, high = paired.interval(gained, lost, n)
    return Accuracy(n, float(champion.mean()), float(candidate.mean()), low, high, gained, lost)


def _class_accuracy(pairs: AnswerPairs, column: int) -> ClassAccuracy:
    labels = pairs.labels[:, column]
    champion, candidate = pairs.champion_decisions[:, column], pairs.candidate_decisions[:, column]
    holds, absent = (
        _accuracy(_by_request(pairs, pairs.is_example & (labels == value), champion == value, candidate == value))
        for value in (1, 0)
    )
    return ClassAccuracy(holds, absent)


def _unlabelled(pairs: AnswerPairs, champion: Answers, truth: Truth) -> Unlabelled:
    labelled = pairs.is_labelled
    n = int(labelled.sum())
    flagged = None
    if champion.thresholds is not None:
        is_flagged: Bools = np.asarray(pairs.champion_decisions.any(axis=1))
        flagged = (
            float(is_flagged[labelled].mean()) if n else 0.0,
            float(is_flagged[~labelled].mean()) if n < len(labelled) else 0.0,
        )
    labelled_ids = dict.fromkeys(pairs.request_ids[row] for row in np.flatnonzero(labelled))
    sources = Counter(source for request_id in labelled_ids for source in labels_of(truth[request_id]).sources)
    return Unlabelled(
        entries=len(labelled) - n,
        agreement=_agreement(pairs, ~labelled),
        drift=_drift(pairs, ~labelled),
        labelled=n,
        agreement_labelled=_agreement(pairs, labelled),
        drift_labelled=_drift(pairs, labelled),
        flagged=flagged,
        sources=dict(sources),
        turned={name: _changes(pairs, column) for column, name in enumerate(pairs.names)},
    )


def _changes(pairs: AnswerPairs, column: int) -> tuple[DecisionChanges, DecisionChanges]:
    """Decision changes on one output: where the champion decides that it holds, and where it does not."""
    holds, labelled = pairs.champion_decisions[:, column], pairs.labels[:, column] >= 0
    differs, outputs = holds != pairs.candidate_decisions[:, column], pairs.champion_outputs[:, column]

    def where(side: Bools) -> DecisionChanges:
        untold, told = side & ~labelled, side & labelled
        return DecisionChanges(
            int(untold.sum()),
            int((differs & untold).sum()),
            int(told.sum()),
            int((differs & told).sum()),
            _alike(outputs[untold], outputs[told]),
        )

    return where(holds), where(~holds)


def _alike(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> bool:
    """Whether the Kolmogorov-Smirnov distance of two samples, float64 (n,) each, is negligible, or at most what chance gives in
    99 of 100 cases."""
    n, m = len(first), len(second)
    return bool(n and m) and ks.distance(first, second) <= max(NEGLIGIBLE_DISTANCE, 1.63 * math.sqrt((n + m) / (n * m)))


def _agreement(pairs: AnswerPairs, rows: Any = slice(None)) -> float:
    same = (pairs.champion_decisions == pairs.candidate_decisions)[rows].all(axis=1)
    return float(same.mean()) if len(same) else 1.0


def _drift(pairs: AnswerPairs, rows: Any) -> dict[str, tuple[float, float]]:
    champion, candidate = pairs.champion_outputs[rows], pairs.candidate_outputs[rows]
    return {
        name: (ks.distance(champion[:, column], candidate[:, column]), psi.index(champion[:, column], candidate[:, column])[0])
        if len(champion)
        else (0.0, 0.0)
        for column, name in enumerate(pairs.names)
    }


def _ratio(a: float, b: float) -> float:
    return a / b if b else 1.0
