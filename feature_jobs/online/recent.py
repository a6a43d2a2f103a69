"""A user's recent events with an item, in one feature: what a recommender reads of somebody in the same call as all other features.

The sink (`feature_sink.py`) keeps a `RecentEvents` for each user that it owns. Pure.
"""

from __future__ import annotations

import sys
from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from processors.features.recent_events import Event, from_text, to_text
from schemas.features import MAX_RECENT, RECENT, Value, View

(FEATURE,) = (feature.name for feature in RECENT.features)


@dataclass(frozen=True, slots=True)
class EventAt:
    """An event, and its offset in the partition of the user's events."""

    event: Event
    offset: int


def read_event(record: Mapping[str, Any], offset: int, appended_ms: int) -> EventAt | None:
    """None if the event has no item."""
    if record["item_id"] is None:
        return None
    return EventAt((record["event_ms"], sys.intern(record["item_id"]), sys.intern(record["kind"])), offset)


class RecentEvents:
    """The last MAX_RECENT events by their own time: at most about 20 KB a user."""

    __slots__ = ("_events", "_next_offset")

    def __init__(self) -> None:
        self._events: list[Event] = []  # oldest first
        self._next_offset = 0

    @property
    def last_ms(self) -> int:
        return self._events[-1][0] if self._events else 0

    def put(self, update: EventAt, came_ms: int) -> bool:
        """False if nothing changes: the event was read before, or MAX_RECENT others are newer."""
        if update.offset < self._next_offset:
            return False
        self._next_offset = update.offset + 1
        return self._insert(update.event)

    def take_stored(self, values: Mapping[str, Value]) -> None:
        """Add what an earlier owner stored: the topic may begin later than the user's history."""
        known = set(self._events)
        for at_ms, item, kind in from_text(str(values[FEATURE])):
            if (at_ms, item, kind) not in known:
                self._insert((at_ms, sys.intern(item), sys.intern(kind)))

    def _insert(self, event: Event) -> bool:
        insort(self._events, event)
        return len(self._events) <= MAX_RECENT or self._events.pop(0) != event

    def advance(self, now_ms: int) -> bool:
        return False

    def next_change_ms(self) -> int | None:
        return None

    def values(self, view: View, attributes: Mapping[str, Any] | None) -> dict[str, Value]:
        return {FEATURE: to_text(self._events)}
