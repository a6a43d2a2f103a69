"""Rows: what was read from topics, one list a column, so that no object is built for each record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any

from streams.headers import HeaderList

Place = tuple[str, int]  # topic and partition
Origin = tuple[str, int, int]  # topic, partition and offset


@dataclass(slots=True)
class Polled:
    """What one poll of a source gave, in the order of each partition.

    membership: the source's opaque proof of which group generation it belonged to before this poll; it fences
    the commit of these records (KIP-447). None where the source was in no group.
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
        """Rows behind these; the membership stays."""
        self.places += more.places
        self.offsets += more.offsets
        self.keys += more.keys
        self.values += more.values
        self.headers += more.headers
        self.timestamps_ms += more.timestamps_ms

    def take(self, indices: Sequence[int]) -> Polled:
        columns = (self.places, self.offsets, self.keys, self.values, self.headers, self.timestamps_ms)
        picked: list[Any] = [[column[i] for i in indices] for column in columns]
        found = Polled(*picked)
        found.membership = self.membership
        return found


@dataclass(slots=True)
class Rows:
    """Requests in flight: parallel lists of the same length.

    places, offsets: where each was read. origins: where each first came, which differs for a retry. deadlines_ms: 0
    where there is none. headers: the last value of each name. epoch: the assignment they were read under.
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
    epoch: int

    @classmethod
    def empty(cls, epoch: int = 0) -> Rows:
        return cls([], [], [], [], [], [], [], [], [], [], [], [], epoch)

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

    def _made(self, columns: list[Any]) -> Rows:
        return Rows(*columns, epoch=self.epoch)  # type: ignore[misc]  # one argument is not in the list

    def slice(self, start: int, end: int) -> Rows:
        if start == 0 and end >= len(self):
            return self
        return self._made([column[start:end] for column in self._columns()])

    def take(self, indices: Sequence[int]) -> Rows:
        if len(indices) == len(self) and list(indices) == list(range(len(self))):
            return self
        if len(indices) < 2:
            return self._made([[column[i] for i in indices] for column in self._columns()])
        pick = itemgetter(*indices)
        return self._made([list(pick(column)) for column in self._columns()])

    def extend(self, other: Rows) -> None:
        for mine, theirs in zip(self._columns(), other._columns(), strict=True):
            mine.extend(theirs)

    def bytes(self) -> int:
        """What they hold in memory, about: keys, values and headers."""
        texts = chain(
            self.keys, self.values, chain.from_iterable(self.headers), chain.from_iterable(map(dict.values, self.headers))
        )
        return sum(map(len, filter(None, texts)))

    def spans(self) -> dict[Place, tuple[int, int]]:
        """Lowest and highest offset of each place."""
        found: dict[Place, tuple[int, int]] = {}
        if not self.places:
            return found
        if self.places.count(self.places[0]) == len(self.places):
            return {self.places[0]: (min(self.offsets), max(self.offsets))}
        for place, offset in zip(self.places, self.offsets, strict=True):
            low, high = found.get(place, (offset, offset))
            found[place] = (min(low, offset), max(high, offset))
        return found


@dataclass(slots=True)
class OutRecords:
    """Records for one topic, one list a column. partitions: None lets the key decide (murmur2, as Java's client)."""

    topic: str
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[HeaderList]
    partitions: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.values)


def in_range(partitions: Sequence[int], count: int) -> Sequence[int]:
    """Numbers of partitions that a topic of `count` has: those beyond it go round and round. Negative ones are left to the key."""
    return partitions if count < 1 else [number % count if number >= count else number for number in partitions]
