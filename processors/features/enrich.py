"""Features of the entities that requests name, read in the request path: one MGET a view and batch.

A task declares what it needs, and what becomes of a request whose values are not there, are old, or cannot be asked for:
a zero that nobody chose is never among it. What was served, of what time and in which state, goes into the prediction log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from processors.features.feature_blob import GRACE_MS, Freshness, ServedFeatures, unpack
from processors.features.online_store import OnlineStore
from schemas.columns import Column, Columns, Slices
from schemas.errors import FeaturesRefused, RetryLater
from schemas.features import View
from streams.clock import Clock
from streams.metrics import Metrics

ASK_AGAIN_S = 1.0  # a store that did not answer is not asked again sooner: batches would queue behind its time-out


class Fallback(Enum):
    """What becomes of a request whose features are not as they should be."""

    DEFAULT = "default"  # the feature's default of `schemas/features.py`
    LAST = "last"  # the value as it was last written; only where there is one
    HOLD = "hold"  # the request waits: it goes to the retry topic, and is answered `failed` after the last try
    REFUSE = "refuse"  # the request is answered `failed` at once, with the reason


@dataclass(frozen=True, slots=True)
class Need:
    """Features that a task reads. key: the request's field that names the entity. The policies, by state of what is read."""

    view: View
    key: str
    features: tuple[str, ...]
    stale: Fallback = Fallback.LAST
    missing: Fallback = Fallback.DEFAULT
    unreachable: Fallback = Fallback.HOLD

    def policy(self, state: Freshness) -> Fallback | None:
        return {Freshness.STALE: self.stale, Freshness.MISSING: self.missing, Freshness.UNREACHABLE: self.unreachable}.get(state)

    def column(self, feature: str) -> str:
        """Name of the column that a task finds the feature under."""
        return f"{self.view.name}.{feature}"


@dataclass(frozen=True, slots=True)
class Enriched:
    """A batch of n requests with their features. columns: those of the request and one for each feature, int64, float64 or
    texts, by `Need.column`. served: of each need, entry i of request i. refused, held: by row."""

    columns: Columns
    needs: Sequence[Need] = ()
    served: Sequence[ServedFeatures] = ()
    refused: Mapping[int, FeaturesRefused] = field(default_factory=dict)
    held: Mapping[int, RetryLater] = field(default_factory=dict)

    def take(self, rows: Sequence[int]) -> Enriched:
        """Some rows, as they were enriched; those that were refused or held are not among them."""
        return Enriched(self.columns.take(rows), self.needs, [served.take(rows) for served in self.served])


class Enrich:
    """One a loop. store: None where no need is declared."""

    def __init__(self, needs: Sequence[Need], store: OnlineStore | None, clock: Clock, metrics: Metrics) -> None:
        self._needs, self._store, self._clock, self._metrics = needs, store, clock, metrics
        self._silent_until_s = float("-inf")

    def __call__(self, columns: Columns) -> Enriched:
        """Raises nothing: a store that does not answer is a state like the others."""
        if not self._needs:
            return Enriched(columns)
        served = [self._read(need, columns) for need in self._needs]
        refused: dict[int, FeaturesRefused] = {}
        held: dict[int, RetryLater] = {}
        fields = dict(columns.fields)
        for need, found in zip(self._needs, served, strict=True):
            for state in (Freshness.STALE, Freshness.MISSING, Freshness.UNREACHABLE):
                rows, policy = np.flatnonzero(found.state == state).tolist(), need.policy(state)
                self._metrics.add("features_amiss", len(rows), state=state.name.lower())
                if not rows or policy not in (Fallback.REFUSE, Fallback.HOLD):
                    continue
                entities = columns.text(need.key)
                for row in rows:
                    said = f"{need.view.name} of {need.key} {entities[row] or ''!r} are {state.name.lower()}"
                    if policy is Fallback.REFUSE:
                        refused[row] = FeaturesRefused(said)
                    else:
                        held[row] = RetryLater(said)
            fields |= {need.column(name): _column(column) for name, column in found.values.items()}
        held = {row: error for row, error in held.items() if row not in refused}
        return Enriched(Columns(columns.n, fields), self._needs, served, refused, held)

    def _read(self, need: Need, columns: Columns) -> ServedFeatures:
        entities = columns.text(need.key)
        asked = [row for row, entity in enumerate(entities) if entity]
        blobs: list[bytes | None] = [None] * columns.n
        reached = True
        if asked and self._clock.monotonic_s() < self._silent_until_s:
            reached = False
        elif asked:
            assert self._store is not None
            try:
                found = self._store.read(need.view, [entities[row] or "" for row in asked])
            except RetryLater:
                self._silent_until_s = self._clock.monotonic_s() + ASK_AGAIN_S
                reached = False
            else:
                for row, blob in zip(asked, found, strict=True):
                    blobs[row] = blob
        served = unpack(need.view, blobs, need.features, self._clock.now_ms(), GRACE_MS)
        if not reached:
            served.state[asked] = Freshness.UNREACHABLE
        if need.stale is Fallback.DEFAULT:
            return served.defaulted(need.view, served.state == Freshness.STALE)
        return served


def _column(values: npt.NDArray[Any] | list[str]) -> Column:
    """Texts as the codec gives them."""
    return Slices.of([text.encode() for text in values]) if isinstance(values, list) else values


def logged(enriched: Enriched, which: Sequence[int] | None) -> list[dict[str, Any]]:
    """The features of a batch as the prediction log keeps them. which: the request of each entry, where an entry is not a
    request."""
    found: list[dict[str, Any]] = []
    for need, served in zip(enriched.needs, enriched.served, strict=True):
        part = served if which is None else served.take(which)
        for name, column in part.values.items():
            texts = isinstance(column, list)
            found.append({
                "view": need.view.name, "name": name, "dtype": "utf8" if isinstance(column, list) else column.dtype.str,
                "values": b"" if isinstance(column, list) else column.tobytes(), "texts": column if texts else [],
                "event_ms": part.event_ms.tobytes(), "state": part.state.tobytes(),
            })  # fmt: skip
    return found


def named(enriched: Enriched) -> list[list[dict[str, Any]]]:
    """For each request, its features by name with their values' event times, as results name them."""
    names: list[list[dict[str, Any]]] = [[] for _ in range(enriched.columns.n)]
    for need, served in zip(enriched.needs, enriched.served, strict=True):
        times: npt.NDArray[np.int64] = served.event_ms
        for said, at_ms in zip(names, times.tolist(), strict=True):
            said += [{"name": need.column(name), "event_time_ms": at_ms} for name in need.features]
    return names
