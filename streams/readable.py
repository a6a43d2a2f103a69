"""Records of a topic for readers without dead letters: broadcasts, commands, state that is restored.

A client that may write to Kafka can write anything to any topic, and compacted topics have records without a value. Records that
cannot be read are skipped, counted and reported in one line per poll. They never end the reader, and never hide other records.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import structlog

from schemas.codec import Decoder, SchemaIds
from schemas.errors import BrokerUnavailable, RetryLater, Stop
from schemas.topic_kinds import Record, Topic
from streams.broker import Broadcast
from streams.metrics import Metrics
from streams.rows import Polled

T = TypeVar("T")


class Readable(Generic[T]):
    """Decodes the records of a topic. parse: converts a record's fields for the reader, and may raise any exception if it cannot.
    metrics: counts skipped records as `passed_over`."""

    def __init__(
        self, topic: Topic[Record], registry: SchemaIds, parse: Callable[[dict[str, Any]], T], metrics: Metrics | None = None
    ) -> None:
        self.topic, self._parse, self._metrics = topic.name, parse, metrics
        self._decoder = Decoder.of(topic, registry)
        self.passed_over = 0

    def of(self, polled: Polled) -> list[T]:
        """The readable records, in their order. Raises RetryLater if the registry does not answer; then no record was read."""
        return [record for _, record in self.rows(polled)]

    def rows(self, polled: Polled) -> list[tuple[int, T]]:
        """The same as `of`, each record with its row."""
        columns, failures = self._decoder.decode(polled.values)
        good = [row for row in range(len(polled)) if row not in failures]
        causes: dict[int, Exception] = dict(failures)
        found: list[tuple[int, T]] = []
        for row, fields in zip(good, columns.records(), strict=True):
            try:
                found.append((row, self._parse(fields)))
            except (Stop, RetryLater):
                raise
            except Exception as error:
                causes[row] = error
        if causes:
            self._tell(polled, causes)
        return found

    def _tell(self, polled: Polled, causes: dict[int, Exception]) -> None:
        self.passed_over += len(causes)
        if self._metrics is not None:
            self._metrics.add("passed_over", len(causes), topic=self.topic)
        row = max(causes)
        cause, at = f"{type(causes[row]).__name__}: {causes[row]}", f"{polled.places[row][1]}/{polled.offsets[row]}"
        if structlog.is_configured():
            structlog.get_logger().warning(
                "records passed over: they cannot be read", topic=self.topic, records=len(causes), last=at, cause=cause
            )
        else:  # in a command, which does not configure structlog
            print(
                f"{len(causes)} records of {self.topic} cannot be read and are passed over, the last {at}: {cause}",
                file=sys.stderr,
            )


def every(readable: Readable[T], parts: Iterable[Polled]) -> list[T]:
    """The readable records of a range that is read in parts."""
    return [record for part in parts for record in readable.of(part)]


class Followed(Generic[T]):
    """The records of a broadcast topic. While the registry does not answer, records wait here and are not skipped."""

    def __init__(self, broadcast: Broadcast, readable: Readable[T]) -> None:
        self._broadcast, self._readable = broadcast, readable
        self._waiting = Polled()

    def read_to_end(self, limit_s: float) -> list[T]:
        """All records up to the present end. Raises BrokerUnavailable if broker or registry do not answer within their limits."""
        try:
            return self._readable.of(self._broadcast.read_to_end(limit_s))
        except RetryLater as error:
            raise BrokerUnavailable(f"{self._readable.topic} cannot be read: {error}") from error

    def poll(self) -> list[T]:
        """The records that waited, and the new ones. Raises BrokerUnavailable."""
        return self.take(self._broadcast.poll())

    @property
    def waits(self) -> bool:
        """Whether records wait because the registry has not answered yet."""
        return len(self._waiting) > 0

    def take(self, polled: Polled) -> list[T]:
        """The readable records among records that were not read by `poll`. Records of other topics are left to their own
        readers."""
        mine = [row for row, (topic, _) in enumerate(polled.places) if topic == self._readable.topic]
        self._waiting.extend(polled if len(mine) == len(polled) else polled.take(mine))
        if not len(self._waiting):
            return []
        try:
            found = self._readable.of(self._waiting)
        except RetryLater as error:
            structlog.get_logger().warning("records wait for the registry", topic=self._readable.topic, cause=str(error))
            return []
        self._waiting = Polled()
        return found

    def close(self) -> None:
        self._broadcast.close()
