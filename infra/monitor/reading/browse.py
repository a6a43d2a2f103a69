"""Reads messages for people: from a time, an offset, the newest or the oldest, with a filter, and never more than requested."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from infra.monitor.plain import CUT_CHARS, plain
from infra.monitor.reading.record_filter import Keep, Message
from infra.records import decoded_one
from schemas.codec import SchemaIds
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.rows import Place, Polled

MOST = 500
SCANNED_MOST = 20_000  # with a filter: the next page continues the search
LIMIT_S = 5.0
MOST_BYTES = 16 * 1024 * 1024  # total size of the values of one page
TIME = f"the broker gave no more in {LIMIT_S:.0f} s"
SIZE = f"the records of this page have more than {MOST_BYTES >> 20} MiB"
SCANNED = f"{SCANNED_MOST} records were looked through"
CLOCK = SystemClock()


@dataclass(frozen=True)
class RecordPage:
    """scanned: how many records were looked at. next: by partition, where the following page begins (backwards: where it ends), so that
    pages together hold every record once; null at the end. cut: why there are fewer than asked for though more lie there, or empty."""

    records: list[Message]
    scanned: int
    next: dict[str, int] | None
    cut: str


def message(polled: Polled, i: int, ids: SchemaIds, most_chars: int = CUT_CHARS) -> Message:
    return Message(**plain(decoded_one(polled, i, ids) | {"bytes": len(polled.values[i] or b"")}, most_chars))


class Stretch:
    """The records between given offsets of one topic, in parts. whole: true if all of them are included, false if time ran
    out."""

    def __init__(self, address: KafkaAddress, starts: Mapping[Place, int], ends: Mapping[Place, int], until_s: float) -> None:
        self._address, self._until_s = address, until_s
        self._starts = {place: start for place, start in starts.items() if start < ends[place]}
        self._ends = {place: ends[place] for place in self._starts}
        self.whole = not self._starts

    def __iter__(self) -> Iterator[Polled]:
        if self.whole:
            return
        (topic,) = {topic for topic, _ in self._starts}
        numbers = [number for _, number in self._starts]
        reader = KafkaBroadcast(self._address, topic, CLOCK, dict(self._starts), numbers, self._ends)
        try:
            while not reader.at_end():
                if CLOCK.monotonic_s() >= self._until_s:
                    return
                polled = reader.wait(0.1)
                rows = [i for i, place in enumerate(polled.places) if polled.offsets[i] < self._ends[place]]
                if rows:
                    yield polled.take(rows)
            self.whole = True
        finally:
            reader.close()


@dataclass
class Looked:
    """The state of a search for records: results so far, and the reason for an early end in words, or empty."""

    limit: int
    keep: Keep | None
    records: list[Message] = field(default_factory=list)
    scanned: int = 0
    bytes: int = 0
    cut: str = ""

    def take(self, polled: Polled, i: int, ids: SchemaIds) -> Message | None:
        """Add the record if it matches."""
        self.scanned += 1
        found = message(polled, i, ids)
        if self.keep is not None and not self.keep(found):
            return None
        self.bytes += found.bytes
        return found

    def page(self, at: Mapping[Place, int] | None) -> RecordPage:
        """at: where the next page continues; None at the end."""
        following = None if at is None else {str(place[1]): offset for place, offset in at.items()}
        return RecordPage(self.records, self.scanned, following, self.cut)


def page(
    address: KafkaAddress,
    ids: SchemaIds,
    bounds: Mapping[Place, tuple[int, int]],
    start: Mapping[Place, int] | None,
    limit: int,
    keep: Keep | None,
) -> RecordPage:
    """start: offsets to continue from, oldest first; None for the newest, newest first. bounds: first offset and end of each
    place.

    Raises BrokerUnavailable."""
    looked = Looked(max(1, min(limit, MOST)), keep)
    if start is None:
        return _newest(address, ids, bounds, looked)
    at = {place: max(low, min(high, start.get(place, low))) for place, (low, high) in bounds.items()}
    stretch = Stretch(address, at, {place: high for place, (_, high) in bounds.items()}, CLOCK.monotonic_s() + LIMIT_S)
    full = False
    for polled in stretch:
        for i, place in enumerate(polled.places):
            if full := _is_full(looked):
                break
            at[place] = polled.offsets[i] + 1
            record = looked.take(polled, i, ids)
            if record is not None:
                looked.records.append(record)
        if full or (full := _is_full(looked)):
            break
    if not stretch.whole and not full:
        looked.cut = TIME
    more = any(at[place] < high for place, (_, high) in bounds.items()) and not stretch.whole
    return looked.page(at if more else None)


def _is_full(looked: Looked) -> bool:
    if looked.bytes >= MOST_BYTES and len(looked.records) < looked.limit:
        looked.cut = SIZE
    if looked.scanned >= SCANNED_MOST and len(looked.records) < looked.limit:
        looked.cut = SCANNED
    return len(looked.records) >= looked.limit or bool(looked.cut)


def _newest(address: KafkaAddress, ids: SchemaIds, bounds: Mapping[Place, tuple[int, int]], looked: Looked) -> RecordPage:
    """Reads backwards, in stretches that grow if they contain too few records and shrink if they contain too many. A stretch
    that was not read to its end is not usable: its newest records are the missing ones."""
    at = {place: high for place, (_, high) in bounds.items()}
    before, size, until_s = dict(at), looked.limit, CLOCK.monotonic_s() + LIMIT_S
    while len(looked.records) < looked.limit and not looked.cut:
        open_ = {place: high for place, high in at.items() if high > bounds[place][0]}
        if not open_:
            break
        left_s, room = until_s - CLOCK.monotonic_s(), (SCANNED_MOST - looked.scanned) // len(open_)
        if left_s <= 0 or room < 1:
            looked.cut = TIME if left_s <= 0 else SCANNED
            break
        size = max(1, min(size, room))
        lows = {place: max(bounds[place][0], high - size) for place, high in open_.items()}
        taken, scanned = looked.bytes, looked.scanned
        until = CLOCK.monotonic_s() + (left_s / 2 if size > 1 else left_s)
        found, seen = _stretch(address, ids, lows, open_, until, looked)
        if seen is not None and size > 1:
            fits = (looked.scanned - scanned) // (2 * len(open_))
            size, looked.bytes = max(1, min(size // 2, fits)), taken
            continue
        if (
            seen is not None
        ):  # one record of each place is still too much: this page has those that arrived, the next one has the others
            looked.cut = SIZE if looked.bytes >= MOST_BYTES else TIME
            lows = {place: lows[place] for place in seen}
        before, at, size = at, at | lows, size * 4
        looked.records += merged(found)
    if len(looked.records) > looked.limit:
        looked.records = looked.records[: looked.limit]
        at = before
        for record in looked.records:
            place = (record.topic, record.partition)
            at = at | {place: min(at[place], record.offset)}
    return looked.page(at if any(end > bounds[place][0] for place, end in at.items()) else None)


def _stretch(
    address: KafkaAddress, ids: SchemaIds, lows: Mapping[Place, int], highs: Mapping[Place, int], until_s: float, looked: Looked
) -> tuple[dict[Place, list[Message]], set[Place] | None]:
    """The matching records of the stretch by place, oldest first. If it was too large, or did not arrive in time, also the
    places from which records arrived; otherwise None."""
    found: dict[Place, list[Message]] = {}
    seen: set[Place] = set()
    stretch = Stretch(address, lows, highs, until_s)
    for polled in stretch:
        for i, place in enumerate(polled.places):
            if looked.bytes >= MOST_BYTES:
                return found, seen
            record = looked.take(polled, i, ids)
            seen.add(place)
            if record is not None:
                found.setdefault(place, []).append(record)
    return found, None if stretch.whole and looked.bytes < MOST_BYTES else seen


def merged(found: Mapping[Place, list[Message]]) -> list[Message]:
    """Newest first, with each place in offset order regardless of its timestamps. So the first n of the list end at one offset
    per place, and the next page continues there."""
    left = {place: deque(reversed(records)) for place, records in found.items() if records}
    made = []
    while left:
        place = max(left, key=lambda one: (left[one][0].timestamp_ms, left[one][0].offset))
        made.append(left[place].popleft())
        if not left[place]:
            del left[place]
    return made


def raw(address: KafkaAddress, positions: Mapping[Place, Sequence[int]]) -> Polled:
    """The unchanged records at these offsets of one topic. Records that are deleted, or were not read within LIMIT_S, are
    missing."""
    gathered = Polled()
    starts = {place: min(offsets) for place, offsets in positions.items()}
    ends = {place: max(offsets) + 1 for place, offsets in positions.items()}
    wanted = {place: set(offsets) for place, offsets in positions.items()}
    for polled in Stretch(address, starts, ends, CLOCK.monotonic_s() + LIMIT_S):
        rows = [i for i, place in enumerate(polled.places) if polled.offsets[i] in wanted[place]]
        gathered.extend(polled.take(rows))
    return gathered
