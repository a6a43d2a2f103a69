"""What callers are told of rows that get no result. A step's answer may fail on a row like anything else that reads it."""

from __future__ import annotations

import structlog

from schemas.errors import Stop
from streams.loop.step import Step
from streams.rows import OutRecords, Rows


def told(step: Step, rows: Rows, status: str, code: str, message: str) -> tuple[list[OutRecords], list[int]]:
    """The answers' records, and which rows have none because theirs cannot be written. Raises Stop."""
    try:
        return step.answer(rows, status, code, message), []
    except Stop:
        raise
    except Exception as fault:
        if len(rows) == 1:
            structlog.get_logger().error(
                "answer cannot be written", origin=rows.origins[0], cause=f"{type(fault).__name__}: {fault}"
            )
            return [], [0]
    records: list[OutRecords] = []
    silent: list[int] = []
    for row in range(len(rows)):
        its, none = told(step, rows.take([row]), status, code, message)
        records += its
        silent += [row] if none else []
    return records, silent
