"""Answers to the callers of rows that get no result. A step's `answer` may fail on a row, as anything that reads it may."""

from __future__ import annotations

import structlog

from schemas.errors import Stop
from streams.loop.step import Step
from streams.rows import OutRecords, Rows


def answers(step: Step, rows: Rows, status: str, code: str, message: str) -> tuple[list[OutRecords], list[int]]:
    """The answers' records, and the rows that have none because theirs cannot be written. Raises Stop."""
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
        row_records, unanswered = answers(step, rows.take([row]), status, code, message)
        records += row_records
        silent += [row] if unanswered else []
    return records, silent
