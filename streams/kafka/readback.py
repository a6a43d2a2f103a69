"""Reads a range of a topic outside any group: a process's own output over a window, or an input up to a committed offset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from schemas.codec import SchemaIds
from schemas.errors import BrokerUnavailable
from schemas.topic_kinds import Record, Topic
from streams.clock import Clock, SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.readable import Readable
from streams.rows import Place, Polled

READ_LIMIT_S = 60.0
STALLED_S = 60.0  # longest time without any record; longer than a dead writer's transaction may stay open


def stretch(
    address: KafkaAddress, topic: str, starts: Mapping[Place, int], ends: Mapping[Place, int], clock: Clock
) -> Iterator[Polled]:
    """Committed records from `starts` up to `ends`, in parts. Raises BrokerUnavailable if no record arrives for STALLED_S."""
    if not starts:
        return
    reader = KafkaBroadcast(address, topic, clock, dict(starts), [number for _, number in starts], ends)
    try:
        moved_s = clock.monotonic_s()
        while not reader.at_end():
            part = reader.wait(0.2)
            if len(part):
                moved_s = clock.monotonic_s()
                wanted = _before(part, ends)
                if len(wanted):  # a growing partition is read past its end until the others reach theirs
                    yield wanted
            elif clock.monotonic_s() - moved_s > STALLED_S:
                raise BrokerUnavailable(f"{topic} was not read to {dict(ends)}: nothing came for {STALLED_S:.0f} s")
    finally:
        reader.close()


def newest(address: KafkaAddress, topic: str, ends: Mapping[Place, int], most: int, clock: Clock) -> Iterator[Polled]:
    """The last `most` offsets of each partition before these ends, as `stretch`."""
    firsts = KafkaAdmin(address).firsts(list(ends))
    starts = {place: max(first, ends[place] - most) for place, first in firsts.items()}
    return stretch(address, topic, starts, ends, clock)


def _before(part: Polled, ends: Mapping[Place, int]) -> Polled:
    kept = [i for i, place in enumerate(part.places) if part.offsets[i] < ends[place]]
    return part if len(kept) == len(part) else part.take(kept)


def since(address: KafkaAddress, topic: str, partitions: Iterable[int], from_ms: int, clock: Clock) -> Iterator[Polled]:
    """The records appended since a time, up to the present end, including records whose transaction is not decided yet."""
    admin, places = KafkaAdmin(address), [(topic, number) for number in partitions]
    yield from stretch(address, topic, admin.offsets_at(places, from_ms), admin.ends(places), clock)


def first_times(address: KafkaAddress, offsets: Mapping[Place, int], clock: Clock) -> dict[Place, int]:
    """The broker's time of the first committed record at or after each offset; a place without such a record is absent. All
    places belong to one topic. Raises BrokerUnavailable if this takes longer than STALLED_S."""
    found: dict[Place, int] = {}
    for topic in {topic for topic, _ in offsets}:
        reader = KafkaBroadcast(address, topic, clock, dict(offsets), [number for _, number in offsets])
        try:
            until_s = clock.monotonic_s() + STALLED_S
            while not reader.at_end() and len(found) < len(offsets):
                part = reader.wait(0.2)
                for place, at_ms in zip(part.places, part.timestamps_ms, strict=True):
                    found.setdefault(place, at_ms)
                if clock.monotonic_s() > until_s:
                    raise BrokerUnavailable(f"{topic} was not read at {dict(offsets)}: nothing came for {STALLED_S:.0f} s")
        finally:
            reader.close()
    return found


def records(
    address: KafkaAddress, topic: Topic[Record], registry: SchemaIds, parse: Callable[[dict[str, Any]], Any] = dict
) -> list[Any]:
    """All committed records of a small topic of the catalogue, in our newest schema, with the oldest of each partition first.
    Records that cannot be read are skipped. Raises BrokerUnavailable, RetryLater."""
    reader = KafkaBroadcast(address, topic.name, SystemClock())
    try:
        return Readable(topic, registry, parse).of(reader.read_to_end(READ_LIMIT_S))
    finally:
        reader.close()
