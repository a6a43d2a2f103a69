"""Reads the features of the entities that requests name, in the request path: one MGET per batch.

A task declares the features that it needs, and what happens to a request whose features are missing, stale or unreachable: a
default is used only if the task asks for it. The prediction log keeps the served values, with their event time and freshness.
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
from schemas.features import MAX_ID_CHARS, View
from streams.clock import Clock
from streams.metrics import Metrics

READ_MS = "#read_ms"  # name of the column with the time at which features were read, int64
ASK_AGAIN_S = 1.0  # pause after a store did not answer; otherwise batches would queue behind its timeout


class Fallback(Enum):
    """What happens to a request whose features are stale, missing or unreachable."""

    DEFAULT = "default"  # use the feature's default of `schemas/features.py`
    LAST = "last"  # use the last written value, if there is one
    HOLD = "hold"  # the request waits: it goes to the retry topic, and is answered `failed` after the last try
    REFUSE = "refuse"  # the request is answered `failed` at once, with the reason


@dataclass(frozen=True, slots=True)
class Need:
    """Features that a task reads. key: the request's field that names the entity. stale, missing, unreachable: what happens to a
    request whose features are in that state."""

    view: View
    key: str
    features: tuple[str, ...]
    stale: Fallback = Fallback.LAST
    missing: Fallback = Fallback.DEFAULT
    unreachable: Fallback = Fallback.HOLD

    def fallback(self, state: Freshness) -> Fallback | None:
        return {Freshness.STALE: self.stale, Freshness.MISSING: self.missing, Freshness.UNREACHABLE: self.unreachable}.get(state)

    def column(self, feature: str) -> str:
        """Name of the feature's column."""
        return f"{self.view.name}.{feature}"

    @property
    def state_column(self) -> str:
        """Name of the column of Freshness, int8."""
        return f"{self.view.name}#state"

    @property
    def event_ms_column(self) -> str:
        """Name of the column of the features' event times, int64; 0 if they are missing."""
        return f"{self.view.name}#event_ms"


@dataclass(frozen=True, slots=True)
class Enriched:
    """A batch of n requests with their features. columns: the columns of the request, one per feature, int64 (n,), float64 (n,) or
    texts, named by `Need.column`, and those of states and times. served: one per need, with entry i for request i. refused, held: errors by row."""

    columns: Columns
    needs: Sequence[Need] = ()
    served: Sequence[ServedFeatures] = ()
    refused: Mapping[int, FeaturesRefused] = field(default_factory=dict)
    held: Mapping[int, RetryLater] = field(default_factory=dict)

    def take(self, rows: Sequence[int]) -> Enriched:
        """Some of the rows, which must not contain refused or held ones."""
        return Enriched(self.columns.take(rows), self.needs, [served.take(rows) for served in self.served])


class Enrich:
    """Adds features to batches; each loop has its own. store: None if no need is declared."""

    def __init__(self, needs: Sequence[Need], store: OnlineStore | None, clock: Clock, metrics: Metrics) -> None:
        self._needs, self._store, self._clock, self._metrics = needs, store, clock, metrics
        self._silent_until_s = float("-inf")

    def __call__(self, columns: Columns, now_ms: int | None = None) -> Enriched:
        """now_ms: the time by which values are fresh or stale, which the prediction log keeps. Raises nothing: if the store does not
        answer, the features are UNREACHABLE."""
        if not self._needs:
            return Enriched(columns)
        now_ms = self._clock.now_ms() if now_ms is None else now_ms
        served = self._read(columns, now_ms)
        refused: dict[int, FeaturesRefused] = {}
        held: dict[int, RetryLater] = {}
        fields = {**columns.fields, READ_MS: np.full(columns.n, now_ms, np.int64)}
        for need, features in zip(self._needs, served, strict=True):
            for state in (Freshness.STALE, Freshness.MISSING, Freshness.UNREACHABLE):
                rows, fallback = np.flatnonzero(features.state == state).tolist(), need.fallback(state)
                self._metrics.add("features_amiss", len(rows), state=state.name.lower())
                if not rows or fallback not in (Fallback.REFUSE, Fallback.HOLD):
                    continue
                entities = columns.text(need.key)
                for row in rows:
                    message = f"{need.view.name} of {need.key} {entities[row] or ''!r} are {state.name.lower()}"
                    if fallback is Fallback.REFUSE:
                        refused[row] = FeaturesRefused(message)
                    else:
                        held[row] = RetryLater(message)
            fields |= {need.column(name): _column(column) for name, column in features.values.items()}
            fields |= {need.state_column: features.state, need.event_ms_column: features.event_ms}
        held = {row: error for row, error in held.items() if row not in refused}
        return Enriched(Columns(columns.n, fields), self._needs, served, refused, held)

    def _read(self, columns: Columns, now_ms: int) -> list[ServedFeatures]:
        """The features of each need. An id that no entity can have is not looked up."""
        entities = {need.key: columns.text(need.key) for need in self._needs}
        named = {
            key: [row for row, entity in enumerate(ids) if entity and len(entity) <= MAX_ID_CHARS]
            for key, ids in entities.items()
        }
        stored = self._ask([(need.view, [entities[need.key][row] or "" for row in named[need.key]]) for need in self._needs])
        found: list[ServedFeatures] = []
        for number, need in enumerate(self._needs):
            rows = named[need.key]
            blobs: list[bytes | None] = [None] * columns.n
            for row, blob in zip(rows, stored[number] if stored is not None else (), strict=stored is not None):
                blobs[row] = blob
            served = unpack(need.view, blobs, need.features, now_ms, GRACE_MS)
            if stored is None:
                served.state[rows] = Freshness.UNREACHABLE
            defaulted = need.stale is Fallback.DEFAULT
            found.append(served.defaulted(need.view, served.state == Freshness.STALE) if defaulted else served)
        return found

    def _ask(self, wanted: list[tuple[View, list[str]]]) -> list[list[bytes | None]] | None:
        """One call of the store for all needs; None if it does not answer."""
        if not any(ids for _, ids in wanted):
            return [[] for _ in wanted]
        if self._clock.monotonic_s() < self._silent_until_s:
            return None
        assert self._store is not None
        try:
            return self._store.read_views(wanted)
        except RetryLater:
            self._silent_until_s = self._clock.monotonic_s() + ASK_AGAIN_S
            return None


def _column(values: npt.NDArray[Any] | list[str]) -> Column:
    """Converts values to a column of the codec."""
    return Slices.of([text.encode() for text in values]) if isinstance(values, list) else values


def logged(enriched: Enriched, which: Sequence[int] | None) -> list[dict[str, Any]]:
    """The features of a batch as fields of the prediction log. which: the request of each entry; None if entry i is request i."""
    fields: list[dict[str, Any]] = []
    for need, served in zip(enriched.needs, enriched.served, strict=True):
        part = served if which is None else served.take(which)
        for name, column in part.values.items():
            texts = isinstance(column, list)
            fields.append(
                {
                    "view": need.view.name,
                    "name": name,
                    "dtype": "utf8" if isinstance(column, list) else column.dtype.str,
                    "values": b"" if isinstance(column, list) else column.tobytes(),
                    "texts": column if texts else [],
                    "event_ms": part.event_ms.tobytes(),
                    "state": part.state.tobytes(),
                }
            )
    return fields


def named(enriched: Enriched) -> list[list[dict[str, Any]]]:
    """The features of each request by name, with their event times, as fields of its result."""
    names: list[list[dict[str, Any]]] = [[] for _ in range(enriched.columns.n)]
    for need, served in zip(enriched.needs, enriched.served, strict=True):
        times: npt.NDArray[np.int64] = served.event_ms
        for of_request, at_ms in zip(names, times.tolist(), strict=True):
            of_request += [{"name": need.column(name), "event_time_ms": at_ms} for name in need.features]
    return names
