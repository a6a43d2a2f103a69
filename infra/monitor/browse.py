"""Reading messages for people: from a time, an offset, the newest or the oldest, with a filter, never more than asked."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from infra.records import decoded_one
from schemas.codec import SchemaIds
from schemas.errors import InvalidRequest
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.rows import Place, Polled

MOST = 500
SCANNED_MOST = 20_000  # with a filter: further ones are asked for by the next page
LIMIT_S = 5.0
CUT_CHARS = 16 * 1024  # of one text in a list; the record's own page shows more
WHOLE_CHARS = 1024 * 1024

Keep = Callable[[Mapping[str, Any]], bool]
_WORD = re.compile(r'"([^"]*)"|(\S+)')
_TERM = re.compile(r"^(?P<path>[A-Za-z_][\w.\-]*)(?P<how><=|>=|!=|=|<|>|:)(?P<than>.+)$", re.DOTALL)
_ORDER = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}


def filter_of(text: str) -> Keep:
    """Words that must all hold. `path:text` contains, `path=x`, `path!=x`, `path<1`, `path>=1`: of the value, or of `key`,
    `partition`, `offset`, `header.NAME`; any other word is looked for in the whole record. Quotes keep blanks together.

    Raises InvalidRequest where a number is compared with what is none."""
    tests = [_test(quoted if quoted else word, bool(quoted)) for quoted, word in _WORD.findall(text)]
    return lambda record: all(test(record) for test in tests)


def _test(word: str, quoted: bool) -> Keep:
    found = None if quoted else _TERM.match(word)
    if found is None:
        wanted = word.lower()
        return lambda record: wanted in json.dumps(record, ensure_ascii=False, default=str).lower()
    path, how, than = found["path"].split("."), found["how"], found["than"].strip('"')
    if how in _ORDER:
        try:
            limit = float(than)
        except ValueError:
            raise InvalidRequest(f"filter {word!r}: {how} compares numbers, and {than!r} is none") from None
        compare = _ORDER[how]
        return lambda record: any(isinstance(v, int | float) and compare(v, limit) for v in _values(record, path))
    if how == ":":
        part = than.lower()
        return lambda record: any(part in _text(v).lower() for v in _values(record, path))
    equal: Keep = lambda record: any(_text(v) == than for v in _values(record, path))  # noqa: E731
    return equal if how == "=" else lambda record: not equal(record)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _values(record: Mapping[str, Any], path: Sequence[str]) -> list[Any]:
    """What lies at a path; of a list, what lies at it in each entry."""
    if path[0] == "header":
        name = ".".join(path[1:])
        return [record["headers"][name]] if name in record["headers"] else []
    found: list[Any] = [record if path[0] in ("key", "partition", "offset", "timestamp_ms") else record["value"]]
    for name in path:
        step: list[Any] = []
        for one in found:
            for inner in one if isinstance(one, list) else [one]:
                if isinstance(inner, Mapping) and name in inner:
                    step.append(inner[name])
        found = step
    return [inner for one in found for inner in (one if isinstance(one, list) else [one])]


def plain(value: Any, most_chars: int = CUT_CHARS) -> Any:
    """For JSON: bytes as Avro's own JSON spells them (a character a byte), what is long cut with a word on how much was."""
    match value:
        case bytes():
            return plain(value.decode("latin-1"), min(most_chars, 256) if most_chars == CUT_CHARS else most_chars)
        case str():
            return value if len(value) <= most_chars else f"{value[:most_chars]}… ({len(value) - most_chars} more)"
        case dict():
            return {key: plain(inner, most_chars) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner, most_chars) for inner in value]
        case float() if value != value or value in (float("inf"), float("-inf")):
            return str(value)
        case None | bool() | int() | float():
            return value
        case _:
            return str(value)


def page(
    address: KafkaAddress,
    ids: SchemaIds,
    bounds: Mapping[Place, tuple[int, int]],
    start: Mapping[Place, int] | None,
    limit: int,
    keep: Keep | None,
) -> dict[str, Any]:
    """Records as JSON. start: offsets to read on from, oldest first; None for the newest, newest first.

    bounds: first offset and end of each place. `next`: by partition, where the following page begins (backwards: where it ends);
    `scanned`: how many records were looked at. Raises InvalidRequest, BrokerUnavailable."""
    limit = max(1, min(limit, MOST))
    if start is None:
        return _newest(address, ids, bounds, limit, keep)
    froms = {place: max(low, min(high, start.get(place, low))) for place, (low, high) in bounds.items()}
    found: list[dict[str, Any]] = []
    at = dict(froms)
    scanned = 0
    for polled in _read(address, froms, {place: high for place, (_, high) in bounds.items()}):
        for i, place in enumerate(polled.places):
            if len(found) >= limit or scanned >= SCANNED_MOST:
                break
            scanned += 1
            at[place] = polled.offsets[i] + 1
            record = _shown(polled, i, ids)
            if keep is None or keep(record):
                found.append(record)
        if len(found) >= limit or scanned >= SCANNED_MOST:
            break
    more = any(at[place] < high for place, (_, high) in bounds.items()) and (len(found) >= limit or scanned >= SCANNED_MOST)
    return {
        "records": found,
        "scanned": scanned,
        "next": {str(place[1]): offset for place, offset in at.items()} if more else None,
    }


def _newest(
    address: KafkaAddress, ids: SchemaIds, bounds: Mapping[Place, tuple[int, int]], limit: int, keep: Keep | None
) -> dict[str, Any]:
    """Backwards in stretches that grow: the last records of each partition, the newest of all first."""
    found: list[dict[str, Any]] = []
    highs = {place: high for place, (low, high) in bounds.items() if high > low}
    scanned, stretch = 0, limit
    while highs and len(found) < limit and scanned < SCANNED_MOST:
        lows = {place: max(bounds[place][0], high - stretch) for place, high in highs.items()}
        part: list[dict[str, Any]] = []
        for polled in _read(address, lows, highs):
            for i in range(len(polled)):
                scanned += 1
                record = _shown(polled, i, ids)
                if keep is None or keep(record):
                    part.append(record)
        part.sort(key=lambda record: (record["timestamp_ms"], record["offset"]), reverse=True)
        found += part
        highs = {place: low for place, low in lows.items() if low > bounds[place][0]}
        stretch *= 4
        if keep is None:
            break
    kept = found[:limit]
    ends = {place: high for place, (low, high) in bounds.items()}
    for record in kept:
        place = (record["topic"], record["partition"])
        ends[place] = min(ends[place], record["offset"])
    if keep is not None and len(found) <= limit:
        ends = {place: highs.get(place, bounds[place][0]) for place in ends}
    more = any(end > bounds[place][0] for place, end in ends.items()) and bool(kept or highs)
    return {"records": kept, "scanned": scanned, "next": {str(place[1]): end for place, end in ends.items()} if more else None}


def _read(address: KafkaAddress, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> Any:
    """Parts of what lies between, for LIMIT_S at most: what is not there by then is not shown."""
    wanted = {place: start for place, start in starts.items() if start < ends[place]}
    if not wanted:
        return
    (topic,) = {topic for topic, _ in wanted}
    clock = SystemClock()
    until_s = clock.monotonic_s() + LIMIT_S
    reader = KafkaBroadcast(address, topic, clock, dict(wanted), [number for _, number in wanted], {p: ends[p] for p in wanted})
    try:
        while not reader.at_end() and clock.monotonic_s() < until_s:
            polled = reader.wait(0.1)
            rows = [i for i, place in enumerate(polled.places) if polled.offsets[i] < ends[place]]
            if rows:
                yield polled.take(rows)
    finally:
        reader.close()


def _shown(polled: Polled, i: int, ids: SchemaIds) -> dict[str, Any]:
    found: dict[str, Any] = plain(decoded_one(polled, i, ids) | {"bytes": len(polled.values[i] or b"")})
    return found


def raw(address: KafkaAddress, positions: Mapping[Place, Sequence[int]]) -> Polled:
    """Records at these offsets of one topic as they are; those that are gone are missing."""
    gathered = Polled()
    starts = {place: min(offsets) for place, offsets in positions.items()}
    ends = {place: max(offsets) + 1 for place, offsets in positions.items()}
    wanted = {place: set(offsets) for place, offsets in positions.items()}
    for polled in _read(address, starts, ends):
        rows = [i for i, place in enumerate(polled.places) if polled.offsets[i] in wanted[place]]
        gathered.extend(polled.take(rows))
    return gathered
