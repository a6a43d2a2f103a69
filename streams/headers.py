"""Every header that Millrace writes or reads, and what it means. CloudEvents 1.0, Kafka binding, binary mode.

`ce_id` is the request id. Our own headers have no prefix; `__streams.errors.*` is the dead-letter set of KIP-1034.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
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
KIP_1034: Final = "__streams.errors."


@dataclass(frozen=True)
class Header:
    name: str
    meaning: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]


CATALOGUE: Final[tuple[Header, ...]] = (
    Header(CE_SPECVERSION, "CloudEvents version, 1.0", ("client", "worker"), ("any consumer",)),
    Header(CE_ID, "the request id, a UUIDv7; one is made where it is missing", ("client", "worker"), ("loop", "client")),
    Header(CE_SOURCE, "who wrote the record", ("client", "worker"), ("any consumer",)),
    Header(CE_TYPE, "millrace.<record>", ("client", "worker"), ("any consumer",)),
    Header(CONTENT_TYPE, "application/vnd.confluent.avro", ("client", "worker"), ("any consumer",)),
    Header(TRACEPARENT, "W3C trace context, passed on unchanged", ("client", "loop"), ("worker", "any consumer")),
    Header(DEADLINE_MS, "milliseconds since the epoch after which nobody waits", ("client",), ("loop",)),
    Header(
        PRIORITY,
        "0 to 9, 4 where none is given; higher is computed first among what waits in one worker, and is not seen sooner under exactly once",
        ("client",),
        ("loop",),
    ),
    Header(REPLY_TO, "topic/partition that also gets the result", ("client",), ("worker",)),
    Header(ATTEMPT, "how often the record was tried before", ("loop",), ("loop",)),
    Header(NOT_BEFORE_MS, "milliseconds since the epoch before which a retry waits", ("loop",), ("loop",)),
    Header(
        REDRIVE, "number of the redrive of a dead letter, or of a request asked again", ("operator", "rescore command"), ("loop",)
    ),
    Header(ORIGIN_TOPIC, "topic in which the request first came", ("loop",), ("loop", "operator")),
    Header(ORIGIN_PARTITION, "partition in which the request first came", ("loop",), ("loop", "operator")),
    Header(ORIGIN_OFFSET, "offset at which the request first came", ("loop",), ("loop", "operator")),
    Header(ERROR_CODE, "why a dead letter is dead, one stable word", ("loop",), ("operator",)),
    Header(ERROR_MESSAGE, "the same for a person", ("loop",), ("operator",)),
    Header(ERROR_STEP, "the step that gave up: admit, decode, task, encode", ("loop",), ("operator",)),
    Header(ERROR_WORKER, "the process that gave up", ("loop",), ("operator",)),
    Header(
        HEADERS_UNREADABLE,
        "why a record's headers cannot be read; it stands in their place",
        ("whoever reads the record",),
        ("loop",),
    ),
    Header(
        REPLAY_OFFSET_MS,
        "of a replayed event: milliseconds that its clock is behind the broker's; 0 to MILLRACE_MAX_REPLAY_DAYS, else a dead letter",
        ("replay command", "generate command", "validate"),
        ("validate", "archive"),
    ),
    Header(HEADERS_DROPPED, "number of headers that did not fit the dead letter", ("loop",), ("operator",)),
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
    """The number that `raw` spells in ASCII digits, a minus sign before them at most; None for anything else and for what lies out
    of the bounds. `int` and `isdigit` take more than that: "+5", " 5 ", "1_000", digits of other scripts, "²"."""
    if raw is None or _WHOLE.fullmatch(raw) is None:
        return None
    number = int(raw)
    return number if low <= number <= high else None


def readable(read: Sequence[Callable[[], Sequence[tuple[str, bytes | None]] | None]]) -> list[HeaderList | None]:
    """The headers of records, each read by a call. Kafka has headers without a value: here that is an empty one. Kafka does not ask
    that a name is UTF-8: then none of that record's headers can be read, and HEADERS_UNREADABLE stands in their place."""
    found: list[Any] = []
    for headers in read:
        try:
            found.append(headers())
        except Exception as error:  # never a second call: the client keeps what it could not read, and reading that is a SIGSEGV
            cause = error.__cause__ or error  # the client raises SystemError, with the cause behind it
            found.append([(HEADERS_UNREADABLE, f"{type(cause).__name__}: {cause}".encode()[:500])])
    if None in chain.from_iterable(chain.from_iterable(filter(None, found))):
        return [None if headers is None else [(name, value or b"") for name, value in headers] for headers in found]
    return found
