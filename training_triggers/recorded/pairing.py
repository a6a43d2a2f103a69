"""Entries that two versions both answered, joined with their labels. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training_triggers.recorded.comparison import Answers
from training_triggers.recorded.judgement import Bools, decisions
from training_triggers.recorded.truth import Truth, labels_of


@dataclass(frozen=True, slots=True)
class AnswerPairs:
    """Entries that both versions answered. Outputs: float64, decisions: bool, (entries, names) each. labels: int8 of that shape,
    1 holds, 0 does not, -1 unknown. is_example: bool (entries,), whether the entry's request is the labelled example of its
    content."""

    names: tuple[str, ...]
    request_ids: list[str]
    parts: list[str]
    champion_outputs: npt.NDArray[np.float64]
    candidate_outputs: npt.NDArray[np.float64]
    champion_decisions: Bools
    candidate_decisions: Bools
    labels: npt.NDArray[np.int8]
    is_example: Bools

    @property
    def is_labelled(self) -> Bools:
        return has_label(self.labels)

    def of_requests(self, request_ids: Collection[str]) -> AnswerPairs:
        rows = np.flatnonzero([request_id in request_ids for request_id in self.request_ids])
        return AnswerPairs(
            self.names,
            [self.request_ids[row] for row in rows],
            [self.parts[row] for row in rows],
            self.champion_outputs[rows],
            self.candidate_outputs[rows],
            self.champion_decisions[rows],
            self.candidate_decisions[rows],
            self.labels[rows],
            self.is_example[rows],
        )


def pair(champion: Answers, candidate: Answers, truth: Truth) -> AnswerPairs:
    """Raises ValueError if the versions have different outputs."""
    if champion.names != candidate.names:
        raise ValueError(f"{champion.version} has the outputs {champion.names}, {candidate.version} has {candidate.names}")
    names = champion.names
    candidate_rows = {key: row for row, key in enumerate(zip(candidate.request_ids, candidate.parts, strict=True))}
    keys = enumerate(zip(champion.request_ids, champion.parts, strict=True))
    both = [(row, candidate_rows[key]) for row, key in keys if key in candidate_rows]
    first, second = (np.array(column, np.int64) for column in (zip(*both, strict=True) if both else ((), ())))
    request_ids, parts = [champion.request_ids[row] for row in first], [champion.parts[row] for row in first]
    contents = [champion.contents[row] for row in first] if len(champion.contents) else list(range(len(first)))
    labels = np.full((len(first), len(names)), -1, np.int8)
    for row, (request_id, part) in enumerate(zip(request_ids, parts, strict=True)):
        if request_id in truth:
            of_part = labels_of(truth[request_id]).of(part)
            labels[row] = [int(of_part[name]) if name in of_part else -1 for name in names]
    if champion.thresholds is None:
        labels = one_of_all(labels)
    return AnswerPairs(
        names,
        request_ids,
        parts,
        champion.outputs[first],
        candidate.outputs[second],
        decisions(champion.outputs, champion.thresholds)[first],
        decisions(candidate.outputs, candidate.thresholds)[second],
        labels,
        _is_example(request_ids, contents, has_label(labels)),
    )


def one_of_all(labels: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Labels of a model whose largest output decides: if one class holds, the unknown ones do not. int8 (entries, names)."""
    complete = labels.copy()
    complete[(labels == 1).any(axis=1, keepdims=True) & (labels < 0)] = 0
    return complete


def has_label(labels: npt.NDArray[np.int8]) -> Bools:
    """labels: int8 (entries, names); bool (entries,)."""
    return np.asarray((labels >= 0).any(axis=1))


def _is_example(request_ids: Sequence[str], contents: Sequence[int], labelled: Bools) -> Bools:
    """Which entries belong to the first labelled request of their content: no part of it was part of an earlier one."""
    rows_of_request: dict[str, list[int]] = {}
    for row, request_id in enumerate(request_ids):
        if labelled[row]:
            rows_of_request.setdefault(request_id, []).append(row)
    seen: set[int] = set()
    is_example = np.zeros(len(request_ids), np.bool_)
    for rows in rows_of_request.values():
        shown = {contents[row] for row in rows}
        if not shown & seen:
            is_example[rows] = True
        seen |= shown
    return is_example
