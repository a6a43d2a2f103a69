"""Dead letters and retries: the record as it came, with why and where it came from in headers. Pure."""

from __future__ import annotations

from dataclasses import replace

from schemas.errors import MillraceError
from streams import headers as h
from streams.headers import HeaderList
from streams.loop.admit import MAX_KEY_BYTES
from streams.rows import OutRecords, Rows

MAX_MESSAGE_BYTES = 1024
MAX_KEPT_HEADERS = 48
MAX_KEPT_BYTES = 16 * 1024
ROOM_BYTES = 64 * 1024  # a dead letter may exceed its source's largest record by this
OURS = {
    h.ATTEMPT,
    h.NOT_BEFORE_MS,
    h.REDRIVE,
    h.ORIGIN_TOPIC,
    h.ORIGIN_PARTITION,
    h.ORIGIN_OFFSET,
    h.ERROR_CODE,
    h.ERROR_MESSAGE,
    h.ERROR_STEP,
    h.ERROR_WORKER,
    h.HEADERS_DROPPED,
    h.HEADERS_UNREADABLE,
}


def _kept(found: dict[str, bytes]) -> HeaderList:
    """The record's own headers that fit, and the number of those that do not."""
    kept: HeaderList = []
    room = MAX_KEPT_BYTES
    dropped = 0
    for name, value in found.items():
        if name in OURS or name.startswith(h.KIP_1034):
            continue
        size = len(name.encode()) + len(value)
        if len(kept) >= MAX_KEPT_HEADERS or size > room:
            dropped += 1
            continue
        room -= size
        kept.append((name, value))
    if dropped:
        kept.append((h.HEADERS_DROPPED, str(dropped).encode()))
    return kept


def _origin(rows: Rows, i: int) -> HeaderList:
    topic, partition, offset = rows.origins[i]
    return [
        (h.ORIGIN_TOPIC, topic.encode()),
        (h.ORIGIN_PARTITION, str(partition).encode()),
        (h.ORIGIN_OFFSET, str(offset).encode()),
    ]


def _cause(error: MillraceError, step: str, worker: str) -> HeaderList:
    message = str(error).encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore").encode()
    return [
        (h.ERROR_CODE, error.code.encode()),
        (h.ERROR_MESSAGE, message),
        (h.ERROR_STEP, step.encode()),
        (h.ERROR_WORKER, worker.encode()),
    ]


def answerable(rows: Rows) -> Rows:
    """Rows with keys short enough for an answer: a longer key is replaced by the request id, as the answer would be too large to write."""
    if all(key is None or len(key) <= MAX_KEY_BYTES for key in rows.keys):
        return rows
    pairs = zip(rows.keys, rows.request_ids, strict=True)
    return replace(
        rows, keys=[key if key is None or len(key) <= MAX_KEY_BYTES else request_id.encode() for key, request_id in pairs]
    )


def bare(rows: Rows) -> Rows:
    """Rows whose dead letter can always be written: the request id as key, no value, no header but the reply address."""
    headers = [{h.REPLY_TO: found[h.REPLY_TO]} if h.REPLY_TO in found else {} for found in rows.headers]
    return replace(rows, keys=[one.encode() for one in rows.request_ids], values=[None] * len(rows), headers=headers)


def dead_letters(topic: str, rows: Rows, error: MillraceError, step: str, worker: str) -> OutRecords:
    """Key and value byte for byte, the partition in which it was read (retries keep it), our cause and the KIP-1034 headers."""
    headers: list[HeaderList] = []
    for i in range(len(rows)):
        source, partition, offset = rows.origins[i]
        cause = _cause(error, step, worker)
        headers.append(
            [
                *_kept(rows.headers[i]),
                *([] if h.CE_ID in rows.headers[i] else [(h.CE_ID, rows.request_ids[i].encode())]),
                *_origin(rows, i),
                *cause,
                (h.ATTEMPT, str(rows.attempts[i]).encode()),
                (h.REDRIVE, str(rows.redrives[i]).encode()),
                (h.KIP_1034 + "exception", f"millrace.{type(error).__name__}".encode()),
                (h.KIP_1034 + "message", cause[1][1]),
                (h.KIP_1034 + "topic", source.encode()),
                (h.KIP_1034 + "partition", str(partition).encode()),
                (h.KIP_1034 + "offset", str(offset).encode()),
            ]
        )
    return OutRecords(topic, rows.keys, rows.values, headers, [partition for _, partition in rows.places])


def retries(topic: str, rows: Rows, error: MillraceError, step: str, worker: str, not_before_ms: int) -> OutRecords:
    """The record for another try: one attempt more, the earliest time, and its origin."""
    headers: list[HeaderList] = [
        [
            *_kept(rows.headers[i]),
            *([] if h.CE_ID in rows.headers[i] else [(h.CE_ID, rows.request_ids[i].encode())]),
            *_origin(rows, i),
            *_cause(error, step, worker),
            (h.ATTEMPT, str(rows.attempts[i] + 1).encode()),
            (h.REDRIVE, str(rows.redrives[i]).encode()),
            (h.NOT_BEFORE_MS, str(not_before_ms).encode()),
        ]
        for i in range(len(rows))
    ]
    return OutRecords(topic, rows.keys, rows.values, headers, [partition for _, partition in rows.places])
