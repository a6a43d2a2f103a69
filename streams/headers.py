"""Every header that Millrace writes or reads, with its meaning. They follow CloudEvents 1.0, Kafka binding, binary mode.

`ce_id` is the request id. Our own headers have no prefix; `__streams.errors.*` are the dead-letter headers of KIP-1034.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, Final

HeaderList = list[tuple[str, bytes]]

CE_SPECVERSION: Final = "ce_specversion"
CE_ID: Final = "ce_id"
CE_SOURCE: Final = "ce_source"
CE_TYPE: Final = "ce_type"
CONTENT_TYPE: Final = "content-type"
TRACEPARENT: Final = "traceparent"
DEADLINE_MS: Final = "deadline-ms"
PRIORITY: Final = "priority"
REPLY_TO: Final = "reply-to"
ATTEMPT: Final = "attempt"
NOT_BEFORE_MS: Final = "not-before-ms"
REDRIVE: Final = "redrive"
ORIGIN_TOPIC: Final = "origin-topic"
ORIGIN_PARTITION: Final = "origin-partition"
ORIGIN_OFFSET: Final = "origin-offset"
ERROR_CODE: Final = "error-code"
ERROR_MESSAGE: Final = "error-message"
ERROR_STEP: Final = "error-step"
ERROR_WORKER: Final = "error-worker"
HEADERS_DROPPED: Final = "headers-dropped"
HEADERS_UNREADABLE: Final = "headers-unreadable"
REPLAY_OFFSET_MS: Final = "replay-offset-ms"
ARRIVED_MS: Final = "arrived-ms"
KIP_1034: Final = "__streams.errors."


@dataclass(frozen=True)
class Header:
    name: str
    meaning: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]


CATALOGUE: Final[tuple[Header, ...]] = (
    Header(CE_SPECVERSION, "CloudEvents version, 1.0", ("client", "worker"), ("any consumer",)),
    Header(CE_ID, "request id, a UUIDv7; derived from the position if it is missing", ("client", "worker"), ("loop", "client")),
    Header(CE_SOURCE, "process or command that wrote the record", ("client", "worker"), ("any consumer",)),
    Header(CE_TYPE, "millrace.<record>", ("client", "worker"), ("any consumer",)),
    Header(CONTENT_TYPE, "application/vnd.confluent.avro", ("client", "worker"), ("any consumer",)),
    Header(TRACEPARENT, "W3C trace context, passed on unchanged", ("client", "loop"), ("worker", "any consumer")),
    Header(DEADLINE_MS, "time after which the caller no longer waits, milliseconds since the epoch", ("client",), ("loop",)),
    Header(
        PRIORITY,
        "0 to 9, default 4: requests that wait in one worker are computed in this order, highest first; under exactly once answers are not visible sooner",
        ("client",),
        ("loop",),
    ),
    Header(REPLY_TO, "topic/partition that gets a copy of the result", ("client",), ("worker",)),
    Header(ATTEMPT, "number of earlier tries", ("loop",), ("loop",)),
    Header(NOT_BEFORE_MS, "time before which a retry is not tried, milliseconds since the epoch", ("loop",), ("loop",)),
    Header(
        REDRIVE, "how often a dead letter was redriven, or a request was sent again", ("operator", "rescore command"), ("loop",)
    ),
    Header(ORIGIN_TOPIC, "topic of the original request", ("loop",), ("loop", "operator")),
    Header(ORIGIN_PARTITION, "partition of the original request", ("loop",), ("loop", "operator")),
    Header(ORIGIN_OFFSET, "offset of the original request", ("loop",), ("loop", "operator")),
    Header(ERROR_CODE, "cause of a dead letter, as a stable code", ("loop",), ("operator",)),
    Header(ERROR_MESSAGE, "cause of a dead letter, as a sentence", ("loop",), ("operator",)),
    Header(ERROR_STEP, "step that failed: admit, decode, enrich, prepare, task, encode", ("loop",), ("operator",)),
    Header(ERROR_WORKER, "process that set the record aside", ("loop",), ("operator",)),
    Header(
        HEADERS_UNREADABLE,
        "why a record's headers cannot be read; replaces them",
        ("whoever reads the record",),
        ("loop",),
    ),
    Header(
        ARRIVED_MS,
        "on a valid event: the broker's time at which it came, before it was validated, milliseconds since the epoch",
        ("validate",),
        ("attribution",),
    ),
    Header(
        REPLAY_OFFSET_MS,
        "how far the clock of a replayed event is behind the broker's, milliseconds, up to MILLRACE_MAX_REPLAY_DAYS",
        ("replay command", "generate command", "validate"),
        ("validate", "archive"),
    ),
    Header(HEADERS_DROPPED, "number of headers that did not fit into the dead letter", ("loop",), ("operator",)),
)

AVRO: Final = b"application/vnd.confluent.avro"
SPEC: Final = (CE_SPECVERSION, b"1.0")


def cloud_event(request_ids: Sequence[str], record: str, source: str) -> list[HeaderList]:
    """The five CloudEvents headers of each record of a batch."""
    rest = (SPEC, (CE_SOURCE, source.encode()), (CE_TYPE, f"millrace.{record}".encode()), (CONTENT_TYPE, AVRO))
    return [[(CE_ID, request_id.encode()), *rest] for request_id in request_ids]


INT64_MAX: Final = 2**63 - 1
_WHOLE = re.compile(rb"-?[0-9]{1,19}")


def whole(raw: bytes | None, low: int = 0, high: int = INT64_MAX) -> int | None:
    """The integer that `raw` contains in ASCII digits, with an optional minus sign; None for any other content or a number out of
    bounds. `int` and `isdigit` also accept "+5", " 5 ", "1_000", digits of other scripts, and "²"."""
    if raw is None or _WHOLE.fullmatch(raw) is None:
        return None
    number = int(raw)
    return number if low <= number <= high else None


_value = itemgetter(1)


def readable(read: Sequence[Callable[[], Sequence[tuple[str, bytes | None]] | None]]) -> list[HeaderList | None]:
    """The headers of records; each call in `read` reads those of one record. A header without a value, which Kafka allows, gets
    an empty value. A name that is not UTF-8, which Kafka also allows, makes all headers of its record unreadable:
    HEADERS_UNREADABLE replaces them."""
    results: list[Any] = []
    for headers in read:
        try:
            results.append(headers())
        except Exception as error:  # never call again: a second read of unreadable headers crashes the client (SIGSEGV)
            cause = error.__cause__ or error  # the client raises SystemError from the real cause
            results.append([(HEADERS_UNREADABLE, f"{type(cause).__name__}: {cause}".encode()[:500])])
    try:
        b"".join(map(_value, chain.from_iterable(filter(None, results))))  # the fastest way to find a value that is None
    except TypeError:
        return [None if headers is None else [(name, value or b"") for name, value in headers] for headers in results]
    return results
