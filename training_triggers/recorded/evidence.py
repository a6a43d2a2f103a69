"""Evidence on the versions that answer: the prediction log joined with labels in memory, since the start of a roll-out.

For each answer, a digest of its request and its decisions as bits are stored in a few bytes, so that a label that arrives days
later still counts. A request counts once, however often it is repeated and however many parts it has; a corrected label replaces
the earlier one. Memory is bounded: beyond the bound some requests are dropped, answers and labels alike and by a salted hash, so
that the rest is a fair sample.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from training_triggers.recorded.confidence_sequence import PairedAnswers, Share
from training_triggers.recorded.decision_bits import DecisionBits
from training_triggers.recorded.judgement import decided, is_right
from training_triggers.recorded.truth import RequestLabels, with_label

MOST_ANSWERS = 4_000_000  # some 60 MB
MOST_LABELS = 200_000
MOST_BATCHES = 2_000  # per version, for its times
Side = tuple[str, str, str]  # model, digest of the version, and arm


@dataclass
class ArmEvidence:
    """Evidence on one version in one arm. answered, labelled, right: numbers of requests. batches: (entries, ms) of each, the
    newest MOST_BATCHES."""

    answered: int = 0
    labelled: int = 0
    right: int = 0
    batches: list[tuple[int, float]] = field(default_factory=list)

    @property
    def share(self) -> Share:
        return Share(self.labelled, self.right)


@dataclass
class Evidence:
    """sides: by model, digest and arm. Labels and answers may arrive in either order."""

    most_answers: int = MOST_ANSWERS
    most_labels: int = MOST_LABELS
    sides: dict[Side, ArmEvidence] = field(default_factory=dict)
    _salt: bytes = field(default_factory=lambda: os.urandom(16))
    _below: int = 2**64  # requests whose hash is below this are kept
    _answers: dict[Side, DecisionBits] = field(default_factory=dict)
    _labels: dict[int, RequestLabels] = field(default_factory=dict)
    _said: dict[str, RequestLabels] = field(default_factory=dict)  # equal ones share one object
    _judged: dict[Side, dict[int, bool]] = field(default_factory=dict)

    def of(self, model: str, digest: str, arm: str) -> ArmEvidence:
        return self.sides.get((model, digest, arm), ArmEvidence())

    def beside(self, new: Side, old: Side) -> PairedAnswers:
        """Labelled requests that both sides answered."""
        first, second = self._judged.get(new, {}), self._judged.get(old, {})
        common = first.keys() & second.keys()
        return PairedAnswers(
            len(common),
            sum(first[one] and not second[one] for one in common),
            sum(second[one] and not first[one] for one in common),
        )

    def answers(self, record: Mapping[str, Any]) -> None:
        """Add one record of the prediction log."""
        request_ids, n = record["request_ids"], len(record["request_ids"])
        side = (record["model"], record["digest"] or record["version"], record["arm"])
        if not n:
            return
        seen = self.sides.setdefault(side, ArmEvidence())
        seen.batches.append((n, record["compute_ms"]))
        del seen.batches[:-MOST_BATCHES]
        if not record["output_names"]:
            seen.answered += len(set(request_ids))
            return
        kept = self._answers.get(side)
        if kept is None:
            kept = self._answers[side] = DecisionBits(tuple(record["output_names"]))
        keys = np.array([self._key(one) for one in request_ids], np.uint64)
        new = kept.add(keys, record["parts"] or [""] * n, decided(record, n), self._below)
        seen.answered += len(new)
        for key in new & self._labels.keys():
            self._judge(side, key)
        if sum(map(len, self._answers.values())) > self.most_answers:
            self._thin()

    def label(self, record: Mapping[str, Any]) -> None:
        """Add one record of the labels."""
        key = self._key(record["request_id"])
        if key >= self._below:
            return
        told = with_label(self._labels.get(key), record)
        if told is None:
            return
        self._labels[key] = self._said.setdefault(repr(told), told)
        for side in self._answers:
            self._judge(side, key)
        if len(self._labels) > self.most_labels:
            self._thin()

    def _judge(self, side: Side, key: int) -> None:
        """Judge a request again: it is right if every part with a known label is right."""
        kept, label = self._answers[side], self._labels[key]
        told = [is_right(said, kept.names, label.of(part)) for part, said in kept.of(key)]
        known = [one for one in told if one is not None]
        judged, seen = self._judged.setdefault(side, {}), self.sides[side]
        was = judged.pop(key, None)
        if was is not None:
            seen.labelled -= 1
            seen.right -= was
        if known:
            judged[key] = all(known)
            seen.labelled += 1
            seen.right += judged[key]

    def _thin(self) -> None:
        self._below //= 2
        self._labels = {key: said for key, said in self._labels.items() if key < self._below}
        self._said = {repr(said): said for said in self._labels.values()}
        for side, kept in self._answers.items():
            kept.keep(self._below)
            judged = {key: right for key, right in self._judged.get(side, {}).items() if key < self._below}
            self._judged[side] = judged
            self.sides[side].labelled, self.sides[side].right = len(judged), sum(judged.values())

    def _key(self, request_id: str) -> int:
        return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8, key=self._salt).digest())


def ms_of(seen: ArmEvidence, entries: float) -> float:
    """Time in ms of a batch with this number of entries, by a line fitted to the batches; larger batches never take less time."""
    sizes, took = (np.array(column, float) for column in zip(*seen.batches, strict=True))
    spread = float(((sizes - sizes.mean()) ** 2).sum())
    slope = max(0.0, float(((sizes - sizes.mean()) * (took - took.mean())).sum()) / spread) if spread else 0.0
    return float(np.median(took - slope * sizes)) + slope * entries


def time_ratio(new: ArmEvidence, old: ArmEvidence) -> float:
    """Ratio of batch times, new to old, at the batch size that both see."""
    entries = float(np.median([n for n, _ in (*new.batches, *old.batches)]))
    before = ms_of(old, entries)
    return ms_of(new, entries) / before if before > 0 else 1.0
