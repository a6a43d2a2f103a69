"""Two versions on the same requests: where they differ, who is right more often, and whether the candidate may take over. Pure.

Who is right more often is told with a paired bootstrap (Efron and Tibshirani 1993, chapter 16): requests are drawn with
replacement, each with both answers, so that what is hard for both cancels out. A request's difference is -1, 0 or 1, and drawing n of
them is one multinomial draw of how often each came.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from training_triggers.answers import Bools, decisions, is_right
from training_triggers.settings import TriggerSettings
from training_triggers.triggers import ks, psi

DRAWS = 10_000
SEED = 20_240_501
Truth = Mapping[str, Mapping[str, bool]]  # by request id: by output name, what holds


@dataclass(frozen=True, slots=True)
class Answers:
    """outputs: float (entries, names). thresholds: (names,), or None where the largest output decides."""

    version: str
    names: tuple[str, ...]
    request_ids: Sequence[str]
    parts: Sequence[str]
    outputs: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64] | None
    compute_ms: float
    model_bytes: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of labelled requests that were answered right. low, high: of the difference, 95 %."""

    labelled: int
    champion: float
    candidate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """changed: (request id, part, name, champion's and candidate's output) of decisions that differ, the clearest first."""

    entries: int
    agreement: float
    changed: Sequence[tuple[str, str, str, float, float]]
    drift: Mapping[str, tuple[float, float]]  # by output: KS distance and stability index of candidate against champion
    accuracy: Accuracy | None
    time_ratio: float
    size_ratio: float
    parts: Mapping[str, Accuracy] = field(default_factory=dict)  # of further sets, or of parts of this one


@dataclass(frozen=True, slots=True)
class Policy:
    """margin: by how much a candidate may be worse, with 95 % confidence. least_labelled: below it labels decide nothing, and the
    answers must agree."""

    margin: float = 0.01
    least_labelled: int = 100
    least_entries: int = 100
    least_agreement: float = 0.98
    most_drift: float = 0.2
    most_time_ratio: float = 2.0
    most_size_ratio: float = 2.0

    @classmethod
    def of(cls, settings: TriggerSettings) -> Policy:
        return cls(margin=settings.gate_margin, least_labelled=settings.gate_labelled)


@dataclass(frozen=True, slots=True)
class Verdict:
    passes: bool
    reasons: Sequence[str] = field(default_factory=tuple)


def compare(
    champion: Answers, candidate: Answers, truth: Truth, parts: Mapping[str, Collection[str]] = MappingProxyType({})
) -> Comparison:
    """Of the entries that both answered. parts: by name, requests whose accuracy is told beside that of all, where one of them is
    labelled. Raises ValueError where the versions tell different things."""
    if champion.names != candidate.names:
        raise ValueError(f"{champion.version} tells {champion.names}, {candidate.version} tells {candidate.names}")
    at = {key: i for i, key in enumerate(zip(candidate.request_ids, candidate.parts, strict=True))}
    pairs = [(i, at[key]) for i, key in enumerate(zip(champion.request_ids, champion.parts, strict=True)) if key in at]
    mine = np.array([i for i, _ in pairs], np.int64)
    theirs = np.array([j for _, j in pairs], np.int64)
    said, says = (
        decisions(champion.outputs, champion.thresholds)[mine],
        decisions(candidate.outputs, candidate.thresholds)[theirs],
    )
    was, now = champion.outputs[mine], candidate.outputs[theirs]
    request_ids = [champion.request_ids[i] for i in mine.tolist()]
    differ = np.argwhere(said != says)
    order = np.argsort(-np.abs(now - was)[tuple(differ.T)], kind="stable")
    changed = [
        (request_ids[e], champion.parts[int(mine[e])], champion.names[k], float(was[e, k]), float(now[e, k]))
        for e, k in differ[order].tolist()
    ]
    drift = {
        name: (ks.distance(was[:, k], now[:, k]), psi.index(was[:, k], now[:, k])[0]) if len(pairs) else (0.0, 0.0)
        for k, name in enumerate(champion.names)
    }
    right = (rights(request_ids, said, champion.names, truth), rights(request_ids, says, champion.names, truth))
    told = {
        name: accuracy(*({one: side[one] for one in side if one in chosen} for side in right)) for name, chosen in parts.items()
    }
    return Comparison(
        entries=len(pairs), agreement=float((said == says).all(axis=1).mean()) if len(pairs) else 1.0, changed=changed,
        drift=drift, accuracy=accuracy(*right), time_ratio=_ratio(_each(candidate), _each(champion)),
        size_ratio=_ratio(candidate.model_bytes, champion.model_bytes),
        parts={name: found for name, found in told.items() if found is not None},
    )  # fmt: skip


def rights(request_ids: Sequence[str], said: Bools, names: Sequence[str], truth: Truth) -> dict[str, bool]:
    """Of each request of which something is known: whether every part is said to be what it is."""
    found: dict[str, bool] = {}
    for request_id, says in zip(request_ids, said.tolist(), strict=True):
        right = is_right(says, names, truth.get(request_id, {}))
        if right is not None:
            found[request_id] = found.get(request_id, True) and right
    return found


def accuracy(champion: Mapping[str, bool], candidate: Mapping[str, bool]) -> Accuracy | None:
    """Of the requests that champion names; None where there are none."""
    return accuracy_of(np.array(list(champion.values()), np.bool_), np.array([candidate[one] for one in champion], np.bool_))


def accuracy_of(champion: Bools, candidate: Bools) -> Accuracy | None:
    """bool (n,): which of the same n examples each told right; None where n is 0."""
    n = len(champion)
    if not n:
        return None
    differences = candidate.astype(np.int64) - champion
    counts = np.array([(differences == step).sum() for step in (-1, 0, 1)])
    draws = np.random.default_rng(SEED).multinomial(n, counts / n, DRAWS)
    low, high = np.quantile((draws[:, 2] - draws[:, 0]) / n, [0.025, 0.975])
    return Accuracy(n, float(champion.mean()), float(candidate.mean()), float(low), float(high))


def _each(answers: Answers) -> float:
    return answers.compute_ms / max(1, len(answers.outputs))


def _ratio(a: float, b: float) -> float:
    return a / b if b else 1.0


def judge(found: Comparison, policy: Policy) -> Verdict:
    """Every condition that is not met is a reason; a verdict without one passes."""
    reasons: list[str] = []
    if found.entries < policy.least_entries:
        reasons.append(f"{found.entries} answers could be compared, {policy.least_entries} are the least")
    told = found.accuracy
    if told is not None and told.labelled >= policy.least_labelled:
        reasons += _worse("labelled requests", told, policy)
        for name, part in found.parts.items():
            reasons += _worse(name, part, policy) if part.labelled >= policy.least_labelled else []
    else:
        labelled = told.labelled if told else 0
        if found.agreement < policy.least_agreement:
            reasons.append(
                f"{labelled} requests are labelled, too few to decide by ({policy.least_labelled}), and {found.agreement:.1%} of the "
                f"answers agree, {policy.least_agreement:.0%} must"
            )
        moved = {name: shift for name, (_, shift) in found.drift.items() if shift >= policy.most_drift}
        reasons += [
            f"outputs of {name} moved by {shift:.2f} (stability index), from {policy.most_drift} on it counts"
            for name, shift in moved.items()
        ]
    if found.time_ratio > policy.most_time_ratio:
        reasons.append(f"it takes {found.time_ratio:.1f} times as long, {policy.most_time_ratio} is allowed")
    if found.size_ratio > policy.most_size_ratio:
        reasons.append(f"it is {found.size_ratio:.1f} times as large, {policy.most_size_ratio} is allowed")
    return Verdict(not reasons, reasons)


def _worse(name: str, found: Accuracy, policy: Policy) -> list[str]:
    if found.low > -policy.margin:
        return []
    return [
        f"it may be worse: {found.champion:.3f} became {found.candidate:.3f} of {found.labelled} {name}, "
        f"difference {found.low:+.3f} to {found.high:+.3f}, and {policy.margin} is allowed"
    ]


def read(file: Any) -> Answers:
    """What `inference_workers.replay` wrote."""
    with np.load(file, allow_pickle=False) as found:
        about = json.loads(str(found["about"]))
        return Answers(
            about["version"], tuple(about["names"]), found["request_ids"].tolist(), found["parts"].tolist(),
            found["outputs"].astype(np.float64), None if about["thresholds"] is None else np.array(about["thresholds"]),
            about["compute_ms"], about["bytes"],
        )  # fmt: skip
