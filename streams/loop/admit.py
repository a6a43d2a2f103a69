"""Admission: polled records become requests, or are refused before any work is spent on them. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain

from schemas.errors import InvalidRequest, RecordError, RecordTooLarge, UndecodableRecord
from streams import headers as h
from streams.ids import derived
from streams.rows import Origin, Place, Polled, Rows

MAX_HEADERS = 64
MAX_HEADER_BYTES = 32 * 1024
MAX_ID_BYTES = 128
MAX_KEY_BYTES = 16 * 1024  # results have the request's key
DEFAULT_PRIORITY = 4
MOST_TRIES = 1_000  # a retry with a higher number of tries was not written by a loop
MOST_REDRIVES = 1_000_000
TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_NO_HEADERS: dict[str, bytes] = {}


@dataclass(slots=True)
class Admitted:
    """rows: the requests to be computed. refused: row indices of `all_rows` with the reason. all_rows: all polled records."""

    all_rows: Rows
    rows: Rows
    refused: list[tuple[int, RecordError]] = field(default_factory=list)


def admit(polled: Polled, max_record_bytes: int, own_retry_topics: Collection[str], epoch: int) -> Admitted:
    """Read ids, deadlines, priorities and origins from headers. Origins are trusted only from our own retry topics."""
    n = len(polled)
    maps = [dict(headers) if headers else _NO_HEADERS for headers in polled.headers]
    raw_ids = [found.get(h.CE_ID) for found in maps]
    rows = Rows(
        places=polled.places,
        offsets=polled.offsets,
        keys=polled.keys,
        values=polled.values,
        headers=maps,
        timestamps_ms=polled.timestamps_ms,
        request_ids=[],
        deadlines_ms=[0] * n,
        priorities=[DEFAULT_PRIORITY] * n,
        origins=[(topic, number, offset) for (topic, number), offset in zip(polled.places, polled.offsets, strict=True)],
        attempts=[0] * n,
        redrives=[0] * n,
        sizes=[],
        epoch=epoch,
    )
    names, header_bytes = set[str]().union(*maps), list(map(len, chain.from_iterable(map(dict.values, maps))))
    rows.sizes = _sizes(polled, names, header_bytes)
    fits = max(rows.sizes, default=0) <= min(MAX_KEY_BYTES, max_record_bytes)
    fits = fits and max(header_bytes, default=0) <= MAX_HEADER_BYTES // MAX_HEADERS
    plain = _ids_if_plain(polled, names, raw_ids, own_retry_topics) if fits else None
    if plain is not None:
        rows.request_ids = plain
        return Admitted(rows, rows)
    rows.request_ids = [""] * n
    refused: list[tuple[int, RecordError]] = []
    for i in range(n):
        try:
            _admit_one(rows, i, raw_ids[i], len(polled.headers[i] or ()), max_record_bytes, own_retry_topics)
        except RecordError as error:
            refused.append((i, error))
    if not refused:
        return Admitted(rows, rows)
    return Admitted(rows, rows.without({i for i, _ in refused}), refused)


def _sizes(polled: Polled, names: Collection[str], header_bytes: Collection[int]) -> list[int]:
    """See `Rows.sizes`. names: those of all headers; they count with their mean length, because nearly all records have the same."""
    named_bytes = len(header_bytes) * sum(map(len, names)) / max(1, len(names))
    mean = int((sum(header_bytes) + named_bytes) / max(1, len(polled)))
    return [len(key or b"") + len(value or b"") + mean for key, value in zip(polled.keys, polled.values, strict=True)]


def _ids_if_plain(
    polled: Polled,
    names: set[str],
    raw_ids: list[bytes | None],
    own_retry_topics: Collection[str],
) -> list[str] | None:
    """The ids if no row needs a closer look, as in most batches; otherwise None. Takes only a few calls per batch. names: those of
    all headers."""
    if h.DEADLINE_MS in names or h.PRIORITY in names or any(topic in own_retry_topics for topic, _ in set(polled.places)):
        return None
    if max(map(len, filter(None, polled.headers)), default=0) > MAX_HEADERS or max(map(len, names), default=0) > MAX_ID_BYTES:
        return None
    try:
        ids = [raw.decode() for raw in raw_ids if raw]
    except UnicodeDecodeError:
        return None
    return ids if len(ids) == len(raw_ids) and max(map(len, ids), default=0) <= MAX_ID_BYTES else None


def _admit_one(
    rows: Rows, i: int, raw_id: bytes | None, headers: int, max_record_bytes: int, own_retry_topics: Collection[str]
) -> None:
    """Fill row i. Raises RecordError; the row has an id even then."""
    found, value = rows.headers[i], rows.values[i]
    retried = rows.places[i][0] in own_retry_topics
    rows.request_ids[i] = derived(*rows.origins[i], rows.timestamps_ms[i])
    if h.HEADERS_UNREADABLE in found:
        raise UndecodableRecord(f"its headers cannot be read: {found[h.HEADERS_UNREADABLE].decode(errors='replace')}")
    if retried:
        rows.origins[i] = _origin(found, rows.origins[i])
        rows.attempts[i] = number(found, h.ATTEMPT, 0, high=MOST_TRIES)
        rows.redrives[i] = number(found, h.REDRIVE, 0, high=MOST_REDRIVES)
    if raw_id and len(raw_id) <= MAX_ID_BYTES:
        try:
            rows.request_ids[i] = raw_id.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"header {h.CE_ID} is not UTF-8") from None
    if h.DEADLINE_MS in found:
        rows.deadlines_ms[i] = number(found, h.DEADLINE_MS)
    if h.PRIORITY in found:
        rows.priorities[i] = min(9, max(0, number(found, h.PRIORITY, low=-h.INT64_MAX)))
    if value is not None and len(value) > max_record_bytes:
        raise RecordTooLarge(f"the value has {len(value)} bytes; the topic takes {max_record_bytes}")
    if len(rows.keys[i] or b"") > MAX_KEY_BYTES:
        raise RecordTooLarge(f"the key has more than {MAX_KEY_BYTES} bytes")
    if headers > MAX_HEADERS:
        raise RecordTooLarge(f"the record has {headers} headers; {MAX_HEADERS} are allowed")
    if sum(map(len, chain(found, found.values()))) > MAX_HEADER_BYTES:
        raise RecordTooLarge(f"the headers have more than {MAX_HEADER_BYTES} bytes")


def number(found: dict[str, bytes], name: str, default: int | None = None, low: int = 0, high: int = h.INT64_MAX) -> int:
    """The whole number in a header, within bounds; the default if the header is absent. Raises InvalidRequest."""
    raw = found.get(name)
    if raw is None and default is not None:
        return default
    read = h.whole(raw, low, high)
    if read is None:
        raise InvalidRequest(f"header {name} is {raw!r:.60}, not a whole number from {low} to {high}")
    return read


def waits_until_ms(polled: Polled, i: int, now_ms: int, delay_ms: int) -> int:
    """The time at which a record of a retry topic is tried: the time in its header, but at most the topic's delay after the
    broker received it and after now, because the writer's clock may differ. A malformed time does not wait, as admission refuses
    it."""
    said_ms = h.whole(dict(polled.headers[i] or ()).get(h.NOT_BEFORE_MS)) or 0
    return min(said_ms, polled.timestamps_ms[i] + delay_ms, now_ms + delay_ms)


def _origin(found: dict[str, bytes], place: Origin) -> Origin:
    """The position at which a retried record was first read, by its headers. Raises InvalidRequest if it is not a valid
    position."""
    raw = found.get(h.ORIGIN_TOPIC)
    if raw is None:
        return place
    topic, partition = raw.decode(errors="replace"), number(found, h.ORIGIN_PARTITION, high=2**31 - 1)
    if not TOPIC_NAME.fullmatch(topic):
        raise InvalidRequest(f"header {h.ORIGIN_TOPIC} is {raw!r:.60}, which is no topic's name")
    return topic, partition, number(found, h.ORIGIN_OFFSET)


def not_due(polled: Polled, delays_ms: Mapping[str, int], now_ms: int) -> tuple[list[int], dict[Place, tuple[int, int]]]:
    """Retries wait in their topic: the first record that is not due stops its partition there, and is read again later.

    Returns the indices of the records that may be processed now, and for each stopped partition the offset to go back to and the
    time when it is due. delays_ms: by retry topic."""
    put_back: dict[Place, tuple[int, int]] = {}
    kept: list[int] = []
    for i, place in enumerate(polled.places):
        if place in put_back:
            continue
        delay_ms = delays_ms.get(place[0])
        not_before_ms = 0 if delay_ms is None else waits_until_ms(polled, i, now_ms, delay_ms)
        if not_before_ms <= now_ms:
            kept.append(i)
        else:
            put_back[place] = polled.offsets[i], not_before_ms
    return kept, put_back
