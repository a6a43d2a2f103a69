"""Two versions on the same recorded requests: where they differ, and who is right more often, of all and of each class. Pure.

What is counted is independent: the parts of a request are one example, and so are requests with the same content (a campaign of one text is
one text). Of such requests the first stands for all.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from training_triggers.recorded import paired
from training_triggers.recorded.judgement import Bools, decisions
from training_triggers.recorded.truth import Truth, known
from training_triggers.triggers import ks, psi

LITTLE = 0.1  # distance of two distributions that is taken for none


@dataclass(frozen=True, slots=True)
class Answers:
    """outputs: float (entries, names). thresholds: (names,), or None where the largest output decides. contents: of each entry, equal numbers
    where the same was shown; empty where that is not known. at_ms: when each was asked, by the broker's clock; empty where not known."""

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


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of labelled examples that were answered right. low, high: of the difference, 95 %. gained, lost: examples that only the candidate,
    and only the champion, told right."""

    labelled: int
    champion: float
    candidate: float
    low: float
    high: float
    gained: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Turned:
    """Decisions on one output where the champion says that it holds, or that it does not. untold: answers of which no label tells whether it
    holds, and changed: of those, said otherwise by the candidate. told: answers of which a label tells, and shown: of those, said otherwise.
    alike: whether the champion's outputs are spread alike over both, as they are where labels are of a fair sample."""

    untold: int = 0
    changed: int = 0
    told: int = 0
    shown: int = 0
    alike: bool = False


@dataclass(frozen=True, slots=True)
class OfClass:
    """holds, absent: accuracy on labelled examples where the output holds (recall) and where it does not."""

    holds: Accuracy | None
    absent: Accuracy | None


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Answers of which no label tells anything, beside those of which one does. drift: by output, KS distance and stability index of the
    candidate against the champion. labelled, agreement_labelled, drift_labelled: the same of the labelled ones. flagged: where outputs have
    thresholds, the share that the champion flags, of the labelled and of the rest. sources: who labelled how many requests. turned: by output,
    where the champion says that it holds, and where not."""

    entries: int
    agreement: float
    drift: Mapping[str, tuple[float, float]]
    labelled: int = 0
    agreement_labelled: float = 1.0
    drift_labelled: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    flagged: tuple[float, float] | None = None
    sources: Mapping[str, int] = field(default_factory=dict)
    turned: Mapping[str, tuple[Turned, Turned]] = field(default_factory=dict)


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
    parts: Mapping[str, Accuracy | None] = field(default_factory=dict)  # of further sets, or of parts of this one
    agreements: Mapping[str, float] = field(default_factory=dict)  # of all answers of those parts, labelled or not
    classes: Mapping[str, OfClass] = field(default_factory=dict)
    unlabelled: Unlabelled | None = None
    strata: Mapping[str, Unlabelled] = field(
        default_factory=dict
    )  # the same of each part: what changed since a drift is compared with its like


@dataclass(frozen=True, slots=True)
class Pairs:
    """Entries that both versions answered. said, says: decisions of champion and candidate (entries, names). told: int8 of that shape, what
    labels say: 1 holds, 0 does not, -1 not known. stands: whether the entry belongs to a
    request that stands for an example."""

    names: tuple[str, ...]
    request_ids: list[str]
    parts: list[str]
    was: npt.NDArray[np.float64]
    now: npt.NDArray[np.float64]
    said: Bools
    says: Bools
    told: npt.NDArray[np.int8]
    stands: Bools


def compare(
    champion: Answers, candidate: Answers, truth: Truth, parts: Mapping[str, Collection[str]] = MappingProxyType({})
) -> Comparison:
    """Of the entries that both answered. parts: by name, requests whose accuracy is told beside that of all; None where none of them is
    labelled. Raises ValueError where the versions tell different things."""
    pairs = paired_up(champion, candidate, truth)
    differ = np.argwhere(pairs.said != pairs.says)
    order = np.argsort(-np.abs(pairs.now - pairs.was)[tuple(differ.T)], kind="stable")
    changed = [
        (pairs.request_ids[e], pairs.parts[e], pairs.names[k], float(pairs.was[e, k]), float(pairs.now[e, k]))
        for e, k in differ[order].tolist()
    ]
    right = rights(pairs)
    return Comparison(
        entries=len(pairs.said), agreement=_agreement(pairs.said, pairs.says), changed=changed, drift=_drift(pairs, slice(None)),
        accuracy=accuracy(right), time_ratio=_ratio(_each(candidate), _each(champion)),
        size_ratio=_ratio(candidate.model_bytes, champion.model_bytes),
        parts={name: accuracy({one: right[one] for one in right if one in chosen}) for name, chosen in parts.items()},
        agreements={name: _agreement_of(pairs, chosen) for name, chosen in parts.items()},
        classes={name: _of_class(pairs, k) for k, name in enumerate(pairs.names)}, unlabelled=_unlabelled(pairs, champion, truth),
        strata={name: _unlabelled(_of_requests(pairs, chosen), champion, truth) for name, chosen in parts.items()},
    )  # fmt: skip


def without(answers: Answers, learnt: Collection[str]) -> Answers:
    """The answers to other requests than these."""
    rows = [i for i, one in enumerate(answers.request_ids) if one not in learnt]
    columns = {
        name: [getattr(answers, name)[i] for i in rows]
        for name in ("request_ids", "parts", "contents", "at_ms")
        if len(getattr(answers, name))
    }
    return replace(answers, outputs=answers.outputs[rows], compute_ms=_each(answers) * len(rows), **columns)  # type: ignore[arg-type]


def paired_up(champion: Answers, candidate: Answers, truth: Truth) -> Pairs:
    """Raises ValueError where the versions tell different things."""
    if champion.names != candidate.names:
        raise ValueError(f"{champion.version} tells {champion.names}, {candidate.version} tells {candidate.names}")
    names = champion.names
    at = {key: i for i, key in enumerate(zip(candidate.request_ids, candidate.parts, strict=True))}
    both = [(i, at[key]) for i, key in enumerate(zip(champion.request_ids, champion.parts, strict=True)) if key in at]
    mine, theirs = (np.array(column, np.int64) for column in (zip(*both, strict=True) if both else ((), ())))
    request_ids, parts = [champion.request_ids[i] for i in mine], [champion.parts[i] for i in mine]
    contents = [champion.contents[i] for i in mine] if len(champion.contents) else list(range(len(mine)))
    told = np.full((len(mine), len(names)), -1, np.int8)
    for row, (request_id, part) in enumerate(zip(request_ids, parts, strict=True)):
        if request_id in truth:
            said_of = known(truth[request_id]).of(part)
            told[row] = [int(said_of[name]) if name in said_of else -1 for name in names]
    if champion.thresholds is None:
        told = largest(told)
    return Pairs(
        names, request_ids, parts, champion.outputs[mine], candidate.outputs[theirs],
        decisions(champion.outputs, champion.thresholds)[mine], decisions(candidate.outputs, candidate.thresholds)[theirs], told,
        _standing(request_ids, contents, _is_labelled(told)),
    )  # fmt: skip


def largest(told: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Where the largest output decides, what is one of them is none of the others."""
    found = told.copy()
    found[(told == 1).any(axis=1, keepdims=True) & (told < 0)] = 0
    return found


def _is_labelled(told: npt.NDArray[np.int8]) -> Bools:
    return np.asarray((told >= 0).any(axis=1))


def _standing(request_ids: Sequence[str], contents: Sequence[int], labelled: Bools) -> Bools:
    """Which entries belong to the labelled request that stands for its content: the first one none of whose parts was seen in one before."""
    of_request: dict[str, list[int]] = {}
    for row, request_id in enumerate(request_ids):
        if labelled[row]:
            of_request.setdefault(request_id, []).append(row)
    seen: set[int] = set()
    found = np.zeros(len(request_ids), np.bool_)
    for rows in of_request.values():
        shown = {contents[row] for row in rows}
        if not shown & seen:
            found[rows] = True
        seen |= shown
    return found


def rights(pairs: Pairs) -> dict[str, tuple[bool, bool]]:
    """Of each request that stands for an example: whether champion and candidate say all that is known of its parts as it is."""
    fits, fit = (_fits(pairs.told, side) for side in (pairs.said, pairs.says))
    found: dict[str, tuple[bool, bool]] = {}
    for row in np.flatnonzero(pairs.stands).tolist():
        was, now = found.get(pairs.request_ids[row], (True, True))
        found[pairs.request_ids[row]] = was and bool(fits[row]), now and bool(fit[row])
    return found


def _fits(told: npt.NDArray[np.int8], said: Bools) -> Bools:
    return np.asarray(((told < 0) | (told == said)).all(axis=1))


def accuracy(right: Mapping[str, tuple[bool, bool]]) -> Accuracy | None:
    """None where there is no example."""
    both = np.array(list(right.values()), np.bool_).reshape(-1, 2)
    return accuracy_of(both[:, 0], both[:, 1])


def accuracy_of(champion: Bools, candidate: Bools) -> Accuracy | None:
    """bool (n,): which of the same n independent examples each told right; None where n is 0."""
    n = len(champion)
    if not n:
        return None
    gained, lost = int((candidate & ~champion).sum()), int((champion & ~candidate).sum())
    low, high = paired.interval(gained, lost, n)
    return Accuracy(n, float(champion.mean()), float(candidate.mean()), low, high, gained, lost)


def _of_class(pairs: Pairs, k: int) -> OfClass:
    told, said, says = pairs.told[:, k], pairs.said[:, k], pairs.says[:, k]
    sides = []
    for value in (1, 0):
        right: dict[str, tuple[bool, bool]] = {}
        for row in np.flatnonzero(pairs.stands & (told == value)).tolist():
            was, now = right.get(pairs.request_ids[row], (True, True))
            right[pairs.request_ids[row]] = was and bool(said[row] == value), now and bool(says[row] == value)
        sides.append(accuracy(right))
    return OfClass(sides[0], sides[1])


def _turned(pairs: Pairs, k: int) -> tuple[Turned, Turned]:
    told, said, says = pairs.told[:, k], pairs.said[:, k], pairs.says[:, k]

    def where(asked: Bools) -> Turned:
        moved, untold, is_told = asked & (said != says), asked & (told < 0), asked & (told >= 0)
        return Turned(
            int(untold.sum()), int((moved & untold).sum()), int(is_told.sum()), int((moved & is_told).sum()),
            _alike(pairs.was[untold, k], pairs.was[is_told, k]),
        )  # fmt: skip

    return where(said), where(~said)


def _of_requests(pairs: Pairs, chosen: Collection[str]) -> Pairs:
    rows = np.flatnonzero([one in chosen for one in pairs.request_ids])
    return Pairs(
        pairs.names, [pairs.request_ids[row] for row in rows], [pairs.parts[row] for row in rows], pairs.was[rows], pairs.now[rows],
        pairs.said[rows], pairs.says[rows], pairs.told[rows], pairs.stands[rows],
    )  # fmt: skip


def _alike(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> bool:
    """By the distance of Kolmogorov and Smirnov: no more than chance gives in 99 of 100 cases, or little."""
    n, m = len(first), len(second)
    return bool(n and m) and ks.distance(first, second) <= max(LITTLE, 1.63 * math.sqrt((n + m) / (n * m)))


def _unlabelled(pairs: Pairs, champion: Answers, truth: Truth) -> Unlabelled:
    labelled = _is_labelled(pairs.told)
    n = int(labelled.sum())
    flagged = None
    if champion.thresholds is not None:
        yes: Bools = np.asarray(pairs.said.any(axis=1))
        flagged = (float(yes[labelled].mean()) if n else 0.0, float(yes[~labelled].mean()) if n < len(labelled) else 0.0)
    told_ids = dict.fromkeys(one for one, is_labelled in zip(pairs.request_ids, labelled.tolist(), strict=True) if is_labelled)
    return Unlabelled(
        entries=len(labelled) - n, agreement=_agreement(pairs.said[~labelled], pairs.says[~labelled]), drift=_drift(pairs, ~labelled),
        labelled=n, agreement_labelled=_agreement(pairs.said[labelled], pairs.says[labelled]), drift_labelled=_drift(pairs, labelled),
        flagged=flagged,
        turned={name: _turned(pairs, k) for k, name in enumerate(pairs.names)}, sources=dict(Counter(source for one in told_ids for source in known(truth[one]).sources)),
    )  # fmt: skip


def _agreement(said: Bools, says: Bools) -> float:
    return float((said == says).all(axis=1).mean()) if len(said) else 1.0


def _agreement_of(pairs: Pairs, chosen: Collection[str]) -> float:
    part = _of_requests(pairs, chosen)
    return _agreement(part.said, part.says)


def _drift(pairs: Pairs, rows: Any) -> dict[str, tuple[float, float]]:
    was, now = pairs.was[rows], pairs.now[rows]
    return {
        name: (ks.distance(was[:, k], now[:, k]), psi.index(was[:, k], now[:, k])[0]) if len(was) else (0.0, 0.0)
        for k, name in enumerate(pairs.names)
    }


def _each(answers: Answers) -> float:
    return answers.compute_ms / max(1, len(answers.outputs))


def _ratio(a: float, b: float) -> float:
    return a / b if b else 1.0


def read(file: Any) -> Answers:
    """What `inference_workers.replay` wrote."""
    with np.load(file, allow_pickle=False) as found:
        about = json.loads(str(found["about"]))
        return Answers(
            about["version"], tuple(about["names"]), found["request_ids"].tolist(), found["parts"].tolist(),
            found["outputs"].astype(np.float64), None if about["thresholds"] is None else np.array(about["thresholds"]),
            about["compute_ms"], about["bytes"], found["contents"].tolist() if "contents" in found else (),
            found["at_ms"].tolist() if "at_ms" in found else (),
        )  # fmt: skip
