"""The catalogue of items that changes while a worker runs: `items-v1`, read by each worker as a whole.

A task with `take_items` gets the changes between two batches, and a version that is loaded gets all of them before it answers. The
topic is the catalogue: once it has an item, items that a version brought and the topic lacks are not shown. So an item that was
removed does not come back with an older version, when the topic no longer remembers the removal.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from inference_workers.task import ItemChange, TakeItems, Version
from schemas.codec import SchemaIds
from schemas.features import MAX_ID_CHARS
from schemas.topics import ITEMS
from streams.broker import Broadcast
from streams.clock import Clock
from streams.metrics import Metrics
from streams.newest_records import NewestRecords

POLL_EVERY_S = 0.05


class FollowedItems:
    """`poll` may run beside the other methods, on another thread."""

    def __init__(self, topic: Broadcast, ids: SchemaIds, clock: Clock, metrics: Metrics, take: TakeItems) -> None:
        """take: the task's own `take_items`. Raises BrokerUnavailable if the topic cannot be read."""
        self._clock, self._take = clock, take
        self._newest: NewestRecords[ItemChange] = NewestRecords(ITEMS, topic, ids, _change, metrics)
        self._applied: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # number of the last change that a backend took
        self._compared: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # backends whose items are all of the catalogue
        self._lock, self._polled_s = Lock(), float("-inf")

    def poll(self) -> None:
        """Read new records, without waiting. Raises BrokerUnavailable."""
        if self._clock.monotonic_s() - self._polled_s >= POLL_EVERY_S:
            self._polled_s = self._clock.monotonic_s()
            with self._lock:
                self._newest.poll()

    def bring_up(self, versions: Iterable[Version]) -> None:
        """Give each version the changes that it lacks. A backend may be in several arms, or be new."""
        for version in versions:
            backend = version.backend
            with self._lock:
                applied = self._applied.get(backend, 0)
                changes = [change or ItemChange(key) for key, change in self._newest.since(applied)]
                catalogue = set(self._newest.everything()) if self._must_compare(backend, applied) else None
                self._applied[backend] = self._newest.number
            if changes or catalogue is not None:
                self._take(backend, changes, catalogue)
            if catalogue is not None:
                self._compared[backend] = True

    def _must_compare(self, backend: Any, applied: int) -> bool:
        """A topic that never had an item says nothing about those of a version."""
        if applied < self._newest.forgotten:
            return True
        return len(self._newest) > 0 and backend not in self._compared

    def close(self) -> None:
        self._newest.close()


def _change(record: dict[str, Any]) -> tuple[str, ItemChange]:
    if len(record["item_id"]) > MAX_ID_CHARS:
        raise ValueError(f"its id has {len(record['item_id'])} characters; at most {MAX_ID_CHARS} are allowed")
    return record["item_id"], ItemChange(record["item_id"], record["title"], record["category"], record["price_cents"])
