"""Records read from topics, as columns: one list per field, so that no object is built per record."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from streams.headers import HeaderList

Place = tuple[str, int]  # topic and partition
Origin = tuple[str, int, int]  # topic, partition and offset


@dataclass(slots=True)
class Polled:
    """The records of one poll, in the order of each partition.

    membership: the source's opaque proof of the group generation to which it belonged before this poll; it fences the commit
    of these records (KIP-447). None if the source was in no group.
    """

    places: list[Place] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[HeaderList | None] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    membership: bytes | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def extend(self, more: Polled) -> None:
        """Append rows; the membership does not change."""
        self.places += more.places
        self.offsets += more.offsets
        self.keys += more.keys
        self.values += more.values
        self.headers += more.headers
        self.timestamps_ms += more.timestamps_ms

    def take(self, indices: Sequence[int]) -> Polled:
        columns = (self.places, self.offsets, self.keys, self.values, self.headers, self.timestamps_ms)
        selected: list[Any] = [[column[i] for i in indices] for column in columns]
        polled = Polled(*selected)
        polled.membership = self.membership
        return polled


@dataclass(slots=True)
class Rows:
    """Requests in flight: parallel lists of the same length.

    places, offsets: the position of each row. origins: the position at which each was first read, which differs for a retry.
    deadlines_ms: 0 if a row has no deadline. headers: the last value of each name. sizes: about how many bytes the key, value and
    headers of a row have, in which headers count as the mean of their poll. epoch: number of the assignment under which the rows
    were read.
    """

    places: list[Place]
    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[dict[str, bytes]]
    timestamps_ms: list[int]
    request_ids: list[str]
    deadlines_ms: list[int]
    priorities: list[int]
    origins: list[Origin]
    attempts: list[int]
    redrives: list[int]
    sizes: list[int]
    epoch: int

    @classmethod
    def empty(cls, epoch: int = 0) -> Rows:
        return cls([], [], [], [], [], [], [], [], [], [], [], [], [], epoch)

    def __len__(self) -> int:
        return len(self.offsets)

    def _columns(self) -> Iterator[Any]:
        yield self.places
        yield self.offsets
        yield self.keys
        yield self.values
        yield self.headers
        yield self.timestamps_ms
        yield self.request_ids
        yield self.deadlines_ms
        yield self.priorities
        yield self.origins
        yield self.attempts
        yield self.redrives
        yield self.sizes

    def _of(self, columns: list[Any]) -> Rows:
        return Rows(*columns, epoch=self.epoch)  # type: ignore[misc]  # the list lacks one argument

    def slice(self, start: int, end: int) -> Rows:
        if start == 0 and end >= len(self):
            return self
        return self._of([column[start:end] for column in self._columns()])

    def take(self, indices: Sequence[int]) -> Rows:
        if len(indices) == len(self) and list(indices) == list(range(len(self))):
            return self
        if len(indices) < 2:
            return self._of([[column[i] for i in indices] for column in self._columns()])
        pick = itemgetter(*indices)
        return self._of([list(pick(column)) for column in self._columns()])

    def without(self, indices: Collection[int]) -> Rows:
        """All other rows; this object itself if no index is given."""
        if not indices:
            return self
        return self.take([row for row in range(len(self)) if row not in indices])

    def extend(self, other: Rows) -> None:
        for column, more in zip(self._columns(), other._columns(), strict=True):
            column.extend(more)

    def bytes(self) -> int:
        """Approximate size in memory: keys, values and headers."""
        return sum(self.sizes)

    def spans(self) -> dict[Place, tuple[int, int]]:
        """The lowest and highest offset of each place."""
        spans: dict[Place, tuple[int, int]] = {}
        if not self.places:
            return spans
        if self.places.count(self.places[0]) == len(self.places):
            return {self.places[0]: (min(self.offsets), max(self.offsets))}
        for place, offset in zip(self.places, self.offsets, strict=True):
            low, high = spans.get(place, (offset, offset))
            spans[place] = (min(low, offset), max(high, offset))
        return spans


@dataclass(slots=True)
class OutRecords:
    """Records to write to one topic, one list per column. partitions: None chooses partitions by key (murmur2, as Java's
    client)."""

    topic: str
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[HeaderList]
    partitions: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.values)


def in_range(partitions: Sequence[int], count: int) -> Sequence[int]:
    """Partition numbers for a topic that has `count` partitions: larger numbers wrap around; negative ones let the key choose."""
    return partitions if count < 1 else [number % count if number >= count else number for number in partitions]
