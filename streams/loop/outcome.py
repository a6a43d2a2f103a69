"""The only three ends of a record. A log line is none of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.errors import RecordError, RetryLater
from streams.rows import OutRecords, Rows


@dataclass(slots=True)
class Emit:
    """These rows are answered: their records go out, and their offsets may be committed.

    With no rows the records go out at once and end nothing: a step that streams (tokens) says so many times
    before the Emit that names its row.
    """

    rows: Rows
    records: list[OutRecords] = field(default_factory=list)


@dataclass(slots=True)
class Reject:
    """These rows cannot be answered: to the dead-letter topic with the cause, and a `failed` answer each."""

    rows: Rows
    error: RecordError
    step: str


@dataclass(slots=True)
class Defer:
    """These rows may succeed later: to a retry topic, or, where the topic's order is strict, again in place."""

    rows: Rows
    error: RetryLater
    step: str


Outcome = Emit | Reject | Defer
