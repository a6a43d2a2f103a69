"""The only three outcomes of a record. Logging a record is not an outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.errors import RecordError, RetryLater
from streams.rows import OutRecords, Rows


@dataclass(slots=True)
class Emit:
    """These rows are answered: their records are written, and their offsets may be committed.

    An Emit without rows is written at once and finishes no row: a step that streams tokens emits many of them before the Emit
    that finishes its row.
    """

    rows: Rows
    records: list[OutRecords] = field(default_factory=list)


@dataclass(slots=True)
class Reject:
    """These rows cannot be answered: each goes to the dead-letter topic with the cause, and its caller gets a `failed` answer."""

    rows: Rows
    error: RecordError
    step: str


@dataclass(slots=True)
class Defer:
    """These rows may succeed later: they go to a retry topic or, if the topic's order is strict, are tried again in place."""

    rows: Rows
    error: RetryLater
    step: str


Outcome = Emit | Reject | Defer


def rejects(rows: Rows, errors: Mapping[int, RecordError], step: str) -> list[Outcome]:
    """One Reject per row that has an error. errors: by row. step: the step that failed, for the dead letter."""
    return [Reject(rows.take([row]), error, step) for row, error in errors.items()]
