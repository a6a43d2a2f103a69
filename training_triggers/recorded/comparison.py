"""What two versions answered to the same recorded requests, and how they compare: the values that `compare.py` computes and the
gate judges."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Answers:
    """What a version answered to recorded requests, one entry for each part. outputs: float64 (entries, names). thresholds:
    (names,), or None if the largest output decides. contents: a number for each entry, equal for equal content; empty if not
    recorded. at_ms: time of each request by the broker's clock; empty if not recorded."""

    version: str
    names: tuple[str, ...]
    request_ids: Sequence[str]
    parts: Sequence[str]
    outputs: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64] | None
    compute_ms: float
    model_bytes: int
    contents: Sequence[int] = ()
    at_ms: Sequence[int] = ()

    @property
    def ms_per_entry(self) -> float:
        return self.compute_ms / max(1, len(self.outputs))


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of labelled examples that each version answers correctly. low, high: 95 % interval of the difference. gained, lost:
    examples that only the candidate, and only the champion, answers correctly."""

    labelled: int
    champion: float
    candidate: float
    low: float
    high: float
    gained: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class DecisionChanges:
    """How often the candidate's decision on one output differs, among answers where the champion decides that the output holds,
    or that it does not. untold: answers without a label of this output, and changed: how many of them differ. told: answers with
    a label, and shown: how many of them differ. alike: whether the champion's outputs are distributed alike on both, as they are
    if the labelled answers are a fair sample."""

    untold: int = 0
    changed: int = 0
    told: int = 0
    shown: int = 0
    alike: bool = False


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """holds, absent: accuracy on labelled examples where the class holds (recall) and where it does not."""

    holds: Accuracy | None
    absent: Accuracy | None


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Answers without any label, compared with those that have one. drift: by output, KS distance and stability index of the
    candidate against the champion. labelled, agreement_labelled, drift_labelled: the same for the labelled answers. flagged: if
    outputs have thresholds, the share that the champion flags, of the labelled and of the other answers. sources: number of
    labelled requests by source of the label. turned: by output, the changes among answers where the champion decides that it
    holds, and where it does not."""

    entries: int
    agreement: float
    drift: Mapping[str, tuple[float, float]]
    labelled: int = 0
    agreement_labelled: float = 1.0
    drift_labelled: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    flagged: tuple[float, float] | None = None
    sources: Mapping[str, int] = field(default_factory=dict)
    turned: Mapping[str, tuple[DecisionChanges, DecisionChanges]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """changed: (request id, part, name, champion's and candidate's output) of decisions that differ, the largest difference
    first. drift: by output, KS distance and stability index of the candidate against the champion. parts: accuracy on subsets of
    the requests, or on further sets. agreements: agreement of all answers of those subsets, labelled or not. strata: `unlabelled`
    for each subset, so that changes since a drift are compared with labelled answers since the drift."""

    entries: int
    agreement: float
    changed: Sequence[tuple[str, str, str, float, float]]
    drift: Mapping[str, tuple[float, float]]
    accuracy: Accuracy | None
    time_ratio: float
    size_ratio: float
    parts: Mapping[str, Accuracy | None] = field(default_factory=dict)
    agreements: Mapping[str, float] = field(default_factory=dict)
    classes: Mapping[str, ClassAccuracy] = field(default_factory=dict)
    unlabelled: Unlabelled | None = None
    strata: Mapping[str, Unlabelled] = field(default_factory=dict)


def without(answers: Answers, excluded: Collection[str]) -> Answers:
    """The answers, except those to these requests."""
    rows = [row for row, request_id in enumerate(answers.request_ids) if request_id not in excluded]
    columns = {
        name: [getattr(answers, name)[row] for row in rows]
        for name in ("request_ids", "parts", "contents", "at_ms")
        if len(getattr(answers, name))
    }
    return replace(answers, outputs=answers.outputs[rows], compute_ms=answers.ms_per_entry * len(rows), **columns)  # type: ignore[arg-type]


def read(file: Any) -> Answers:
    """Answers as `inference_workers.replay` writes them."""
    with np.load(file, allow_pickle=False) as arrays:
        about = json.loads(str(arrays["about"]))
        return Answers(
            about["version"],
            tuple(about["names"]),
            arrays["request_ids"].tolist(),
            arrays["parts"].tolist(),
            arrays["outputs"].astype(np.float64),
            None if about["thresholds"] is None else np.array(about["thresholds"]),
            about["compute_ms"],
            about["bytes"],
            arrays["contents"].tolist() if "contents" in arrays else (),
            arrays["at_ms"].tolist() if "at_ms" in arrays else (),
        )
