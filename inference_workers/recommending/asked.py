"""One request for recommendations, with what is known of its user. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference_workers.recommending.recommender import MAX_HISTORY, UserHistory
from processors.features.enrich import READ_MS, Fallback, Need
from processors.features.feature_blob import Freshness
from processors.features.recent_events import Event, from_text
from schemas.columns import Columns, Slices
from schemas.errors import InvalidRequest, RecordError
from schemas.features import MAX_ID_CHARS, RECENT, USER

MAX_LIMIT = 500
MAX_EXCLUDED, MAX_CATEGORIES = 1_000, 100
FEATURES = (
    "age",
    "country",
    "total_purchases",
    "avg_session_duration",
    "lifetime_value",
    "viewed_1h",
    "carted_1h",
    "viewed_24h",
    "carted_24h",
    "bought_24h",
    "viewed_7d",
    "bought_7d",
    "mean_stars_7d",
    "distinct_items_24h",
)
NEEDS = (
    Need(USER, "user_id", FEATURES, unreachable=Fallback.DEFAULT),
    Need(RECENT, "user_id", ("events",), unreachable=Fallback.DEFAULT),
)
USER_NEED, RECENT_NEED = NEEDS


@dataclass(frozen=True, slots=True)
class Asked:
    """One request with what is known of its user. seen: ids of items that the user has seen. read_ms: when features were read."""

    user_id: str
    limit: int
    categories: Collection[str]
    excluded: Collection[str]
    explain: bool
    history: UserHistory
    seen: Collection[str]
    values: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    read_ms: int


def requests_of(columns: Columns, seen_kinds: Collection[str]) -> list[Asked | RecordError]:
    """The requests of a batch, or why one cannot be answered. columns: with the features of NEEDS. seen_kinds: of events after which
    an item counts as seen."""
    known = _Features(columns)
    users, limits, explain = columns.text("user_id"), columns.numbers("limit"), _plain(columns, "explain")
    categories, excluded = columns.nested("categories"), columns.nested("exclude")
    found: list[Asked | RecordError] = []
    for row, user_id in enumerate(users):
        error = _impossible(user_id or "", limits[row], len(excluded[row]), len(categories[row]))
        if error is not None:
            found.append(error)
            continue
        events = known.events(row)
        found.append(
            Asked(
                user_id or "",
                limits[row],
                frozenset(categories[row]),
                frozenset(excluded[row]),
                explain[row],
                known.history(row, events),
                frozenset(item for _, item, kind in events if kind in seen_kinds),
                known.values(row, events),
                known.notes(row),
                known.read_ms[row],
            )
        )
    return found


def _impossible(user_id: str, limit: int, excluded: int, categories: int) -> RecordError | None:
    if len(user_id) > MAX_ID_CHARS:
        return InvalidRequest(f"user_id has {len(user_id)} characters; at most {MAX_ID_CHARS} are allowed")
    if not 1 <= limit <= MAX_LIMIT:
        return InvalidRequest(f"limit is {limit}; it must be from 1 to {MAX_LIMIT}")
    if excluded > MAX_EXCLUDED:
        return InvalidRequest(f"exclude has {excluded} items; at most {MAX_EXCLUDED} are allowed")
    if categories > MAX_CATEGORIES:
        return InvalidRequest(f"categories has {categories} names; at most {MAX_CATEGORIES} are allowed")
    return None


class _Features:
    """The features of a batch as columns, by row. Features without values in the store are absent."""

    def __init__(self, columns: Columns) -> None:
        self.read_ms: list[int] = _plain(columns, READ_MS)
        self._texts = columns.text(RECENT_NEED.column("events"))
        self._columns = {name: _plain(columns, USER_NEED.column(name)) for name in FEATURES}
        self._states = [[Freshness(state) for state in _plain(columns, need.state_column)] for need in NEEDS]
        self._event_ms = [_plain(columns, need.event_ms_column) for need in NEEDS]

    def events(self, row: int) -> list[Event]:
        return from_text(self._texts[row] or "")

    def history(self, row: int, events: Sequence[Event]) -> UserHistory:
        newest = events[-MAX_HISTORY:]
        there = self._states[0][row] in (Freshness.FRESH, Freshness.STALE)
        return UserHistory(
            [item for _, item, _ in newest],
            [kind for _, _, kind in newest],
            [max(0, self.read_ms[row] - at_ms) / 1000 for at_ms, _, _ in newest],
            {name: values[row] for name, values in self._columns.items()} if there else {},
        )

    def values(self, row: int, events: Sequence[Event]) -> list[dict[str, Any]]:
        """As fields of the result."""
        user, recent = (states[row].name.lower() for states in self._states)
        user_ms, recent_ms = (times[row] for times in self._event_ms)
        found = [
            {"name": RECENT_NEED.column("events"), "value": f"{len(events)} events", "state": recent, "event_time_ms": recent_ms}
        ]
        for name, values in self._columns.items():
            value = f"{values[row]:g}" if isinstance(values[row], float) else str(values[row])
            found.append({"name": USER_NEED.column(name), "value": value[:100], "state": user, "event_time_ms": user_ms})
        return found

    def notes(self, row: int) -> list[str]:
        states = {need.view.name: states[row] for need, states in zip(NEEDS, self._states, strict=True)}
        lost = [name for name, state in states.items() if state is Freshness.UNREACHABLE]
        stale = [name for name, state in states.items() if state is Freshness.STALE]
        notes = [f"the online store did not answer: {' and '.join(lost)} are unknown, and so is what was seen"] if lost else []
        return [*notes, *([f"{' and '.join(stale)} are stale: their last values were used"] if stale else [])]


def _plain(columns: Columns, name: str) -> list[Any]:
    column = columns.fields[name]
    return column.to_text() if isinstance(column, Slices) else np.asarray(column).tolist()
