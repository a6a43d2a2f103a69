"""The newest record of each key of a compacted topic, followed in memory: attributes of users, a catalogue of items.

The newest by the broker's clock, in whichever partition: clients part keys by different rules (Java by murmur2, librdkafka by
CRC-32), so the records of one key may lie in two partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import structlog

from schemas.codec import SchemaIds
from schemas.errors import BrokerUnavailable, RetryLater
from schemas.topic_kinds import Record, Topic
from streams.broker import Broadcast
from streams.metrics import Metrics
from streams.readable import Readable
from streams.rows import Polled

START_LIMIT_S = 120.0
MAX_REMOVED = 100_000  # deletions that are remembered, the newest of them
T = TypeVar("T")


class Held(NamedTuple):
    """number: of the change that made it so, rising. value: None if the last record was a deletion."""

    number: int
    at_ms: int
    partition: int
    value: Any


class NewestRecords(Generic[T]):
    """parse: a record's fields to its key and what is held of it; may raise any exception, then the record is passed over.

    number: of the last change; 0 before any. forgotten: number of the last deletion that is no longer remembered: who knows of changes
    up to less than that may hold keys that were deleted. Not safe against use by several threads."""

    def __init__(
        self,
        topic: Topic[Record],
        broadcast: Broadcast,
        ids: SchemaIds,
        parse: Callable[[dict[str, Any]], tuple[str, T]],
        metrics: Metrics | None = None,
    ) -> None:
        """Reads the topic to its end. Raises BrokerUnavailable if broker or registry do not answer: not to know is not the same as
        that there is nothing."""
        self._broadcast, self._readable = broadcast, Readable(topic, ids, parse, metrics)
        self._held: dict[str, Held] = {}  # the one that changed last is the last
        self._removed: dict[str, None] = {}  # in the order of their deletions
        self._waiting = Polled()  # records not decoded yet, because the registry did not answer
        self.number = self.forgotten = 0
        self.take(broadcast.read_to_end(START_LIMIT_S))
        if len(self._waiting):
            raise BrokerUnavailable(f"the registry did not answer: {len(self._waiting)} records of {topic.name} were not read")

    def __len__(self) -> int:
        """Keys that were not deleted."""
        return len(self._held) - len(self._removed)

    def poll(self) -> list[tuple[int, str]]:
        """Read new records, without waiting; partition and key of those that changed. Raises BrokerUnavailable."""
        return self.take(Polled() if len(self._waiting) else self._broadcast.poll())

    def take(self, polled: Polled) -> list[tuple[int, str]]:
        """Add records that were read elsewhere."""
        self._waiting.extend(polled)
        if not len(self._waiting):
            return []
        there = [row for row, value in enumerate(self._waiting.values) if value is not None]
        try:
            parsed = self._readable.rows(self._waiting.take(there))
        except RetryLater as error:
            structlog.get_logger().warning(
                "records wait for the registry", topic=self._readable.topic, records=len(self._waiting), cause=str(error)
            )
            return []
        polled, self._waiting = self._waiting, Polled()
        found: dict[int, tuple[str, T]] = {there[at]: record for at, record in parsed}
        changed: dict[str, int] = {}
        for row, value in enumerate(polled.values):
            if value is None:
                key, content = (polled.keys[row] or b"").decode(errors="replace"), None
            elif row in found:
                key, content = found[row]
            else:
                continue
            if self._put(key, polled.timestamps_ms[row], polled.places[row][1], content):
                changed[key] = polled.places[row][1]
        self._forget()
        return [(partition, key) for key, partition in changed.items()]

    def _put(self, key: str, at_ms: int, partition: int, value: T | None) -> bool:
        before = self._held.get(key)
        if before is not None and before.at_ms > at_ms:
            return False
        if before is not None and (before.partition, before.value) == (partition, value):
            self._held[key] = before._replace(at_ms=at_ms)
            return False
        self.number += 1
        self._held.pop(key, None)
        self._removed.pop(key, None)
        self._held[key] = Held(self.number, at_ms, partition, value)
        if value is None:
            self._removed[key] = None
        return True

    def _forget(self) -> None:
        while len(self._removed) > MAX_REMOVED:
            key = next(iter(self._removed))
            del self._removed[key]
            self.forgotten = self._held.pop(key).number

    def since(self, number: int) -> list[tuple[str, T | None]]:
        """Keys that changed after that number, with what they are now; None if deleted. Costs what changed."""
        changes: list[tuple[str, T | None]] = []
        for key in reversed(self._held):
            held = self._held[key]
            if held.number <= number:
                break
            changes.append((key, held.value))
        return changes[::-1]

    def of(self, key: str) -> T | None:
        held = self._held.get(key)
        return None if held is None else held.value

    def known(self, partition: int) -> Iterable[str]:
        """The keys whose newest record is in the partition."""
        return [key for key, held in self._held.items() if held.partition == partition and held.value is not None]

    def everything(self) -> dict[str, T]:
        return {key: held.value for key, held in self._held.items() if held.value is not None}

    def close(self) -> None:
        self._broadcast.close()
