"""What is known of the versions that answer: the prediction log joined with labels in memory, over the time since a roll-out began."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from training_triggers.answers import decided, is_right
from training_triggers.sequential import Share

MOST_WAITING = 200_000  # answers whose label has not come
MOST_BATCHES = 2_000  # of a version, for its times
Side = tuple[str, str, str]  # model, version and arm


@dataclass
class Seen:
    """Of one version in one arm. batches: (entries, ms) of each, the newest MOST_BATCHES."""

    answered: int = 0
    labelled: int = 0
    right: int = 0
    batches: list[tuple[int, float]] = field(default_factory=list)

    @property
    def share(self) -> Share:
        return Share(self.labelled, self.right)


@dataclass
class Evidence:
    """sides: by model, version and arm. Labels and answers may come in either order; a request's first label counts."""

    sides: dict[Side, Seen] = field(default_factory=dict)
    _waiting: OrderedDict[str, list[tuple[Side, list[bool], tuple[str, ...]]]] = field(default_factory=OrderedDict)
    _early: OrderedDict[str, Mapping[str, bool]] = field(default_factory=OrderedDict)

    def of(self, model: str, version: str, arm: str) -> Seen:
        return self.sides.get((model, version, arm), Seen())

    def answers(self, record: Mapping[str, Any]) -> None:
        """One record of the prediction log."""
        n, side = len(record["request_ids"]), (record["model"], record["version"], record["arm"])
        if not n:
            return
        seen = self.sides.setdefault(side, Seen())
        seen.answered += n
        seen.batches.append((n, record["compute_ms"]))
        del seen.batches[:-MOST_BATCHES]
        if not record["output_names"]:
            return
        names = tuple(record["output_names"])
        for request_id, said in zip(record["request_ids"], decided(record, n).tolist(), strict=True):
            truth = self._early.get(request_id)
            if truth is not None:
                self._judge(side, said, names, truth)
            else:
                self._waiting.setdefault(request_id, []).append((side, said, names))
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)

    def label(self, record: Mapping[str, Any]) -> None:
        """One record of the labels."""
        request_id, truth = record["request_id"], record["truth"]
        if not truth or request_id in self._early:
            return
        self._early[request_id] = truth
        for side, said, names in self._waiting.pop(request_id, ()):
            self._judge(side, said, names, truth)
        while len(self._early) > MOST_WAITING:
            self._early.popitem(last=False)

    def _judge(self, side: Side, said: list[bool], names: tuple[str, ...], truth: Mapping[str, bool]) -> None:
        right = is_right(said, names, truth)
        if right is not None:
            self.sides[side].labelled += 1
            self.sides[side].right += right


def ms_of(seen: Seen, entries: float) -> float:
    """What a batch of so many entries takes, by a line fitted to its batches; larger ones never take less."""
    sizes, took = (np.array(column, float) for column in zip(*seen.batches, strict=True))
    spread = float(((sizes - sizes.mean()) ** 2).sum())
    slope = max(0.0, float(((sizes - sizes.mean()) * (took - took.mean())).sum()) / spread) if spread else 0.0
    return float(np.median(took - slope * sizes)) + slope * entries


def time_ratio(new: Seen, old: Seen) -> float:
    """How much longer a batch takes, at the batch size that both see."""
    entries = float(np.median([n for n, _ in (*new.batches, *old.batches)]))
    before = ms_of(old, entries)
    return ms_of(new, entries) / before if before > 0 else 1.0
