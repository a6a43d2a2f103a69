"""The catalogue of items that changes while a worker runs: `items-v1`, read by each worker as a whole.

A task with `take_items` gets the changes between two batches, and a version that is loaded gets all of them before it answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import structlog

from inference_workers.task import ItemChange, TakeItems, Version
from schemas.codec import Decoder, SchemaIds
from schemas.errors import RetryLater
from schemas.features import MAX_ID_CHARS
from schemas.topics import ITEMS
from streams.broker import Broadcast
from streams.clock import Clock
from streams.metrics import Metrics
from streams.rows import Polled

START_LIMIT_S = 120.0
POLL_EVERY_S = 0.05


class _Held(NamedTuple):
    """number: of the change that made it so, rising."""

    number: int
    at_ms: int
    change: ItemChange


class FollowedItems:
    """The newest record of each item by the broker's clock, in whichever partition: clients part keys by different rules. `poll` may
    run beside the other methods, on another thread."""

    def __init__(self, topic: Broadcast, ids: SchemaIds, clock: Clock, metrics: Metrics, take: TakeItems) -> None:
        """take: the task's own `take_items`. Raises BrokerUnavailable if the topic cannot be read."""
        self._topic, self._clock, self._metrics, self._take = topic, clock, metrics, take
        self._decoder = Decoder.of(ITEMS, ids)
        self._held: dict[str, _Held] = {}  # the one that changed last is the last
        self._number = 0
        self._applied: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # number of the last change that a backend took
        self._waiting = Polled()  # not decoded yet, because the registry did not answer
        self._lock, self._polled_s = Lock(), float("-inf")
        self._add(topic.read_to_end(START_LIMIT_S))

    def poll(self) -> None:
        """Read new records, without waiting. Raises BrokerUnavailable."""
        if self._clock.monotonic_s() - self._polled_s >= POLL_EVERY_S:
            self._polled_s = self._clock.monotonic_s()
            self._add(self._topic.poll())

    def bring_up(self, versions: Iterable[Version]) -> None:
        """Give each version the changes that it lacks. A backend may be in several arms, or be new."""
        for version in versions:
            with self._lock:
                changes = self._since(self._applied.get(version.backend, 0))
                self._applied[version.backend] = self._number
            if changes:
                self._take(version.backend, changes)

    def _since(self, number: int) -> list[ItemChange]:
        changes: list[ItemChange] = []
        for held in reversed(self._held.values()):
            if held.number <= number:
                break
            changes.append(held.change)
        return changes[::-1]

    def _add(self, polled: Polled) -> None:
        self._waiting.extend(polled)
        if not len(self._waiting):
            return
        try:
            columns, errors = self._decoder.decode(self._waiting.values)
        except RetryLater as error:
            structlog.get_logger().warning("items wait for the registry", records=len(self._waiting), cause=str(error))
            return
        polled, self._waiting = self._waiting, Polled()
        records = iter(columns.records())
        with self._lock:
            for row, value in enumerate(polled.values):
                record = None if row in errors else next(records)
                if value is None:
                    item_id = (polled.keys[row] or b"").decode(errors="replace")
                    self._put(ItemChange(item_id), polled.timestamps_ms[row])
                elif record is not None and len(record["item_id"]) <= MAX_ID_CHARS:
                    change = ItemChange(record["item_id"], record["title"], record["category"], record["price_cents"])
                    self._put(change, polled.timestamps_ms[row])
                else:
                    self._metrics.add("passed_over", 1, topic=ITEMS.name)
                    structlog.get_logger().warning(
                        "item not read", key=polled.keys[row], cause=str(errors.get(row, "its id is too long"))
                    )

    def _put(self, change: ItemChange, at_ms: int) -> None:
        before = self._held.get(change.item_id)
        if before is not None and before.at_ms > at_ms:
            return
        if before is not None and before.change == change:
            self._held[change.item_id] = before._replace(at_ms=at_ms)
            return
        self._number += 1
        self._held.pop(change.item_id, None)
        self._held[change.item_id] = _Held(self._number, at_ms, change)

    def close(self) -> None:
        self._topic.close()
