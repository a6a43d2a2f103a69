"""Whether the step still works: judged by its outcomes and, while it seems broken, by trials after growing pauses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from schemas.errors import PoisonRecord
from streams.clock import Clock
from streams.loop.batching import Batcher
from streams.loop.breaker import Breaker
from streams.rows import Rows

WITNESS_EPOCH = -1  # of a row that runs only as a trial: its outcome is discarded


class Trials:
    """Keeps a row that the step answered as a witness: if the step fails on it now, the records are not the cause."""

    def __init__(self, max_failures_in_a_row: int, in_order: bool, clock: Clock, log: Any) -> None:
        self.breaker = Breaker(max_failures_in_a_row)
        self._limit, self._in_order, self._clock, self._log = max_failures_in_a_row, in_order, clock, log
        self._witness: Rows | None = None

    def is_witness(self, rows: Rows) -> bool:
        return rows.epoch == WITNESS_EPOCH

    def answered(self, rows: Rows) -> None:
        """The step gave a result for these rows."""
        self._witness = replace(rows.take([0]), epoch=WITNESS_EPOCH, deadlines_ms=[0])
        if self.breaker.succeed():
            self._log.info("the step answers again")

    def step_is_to_blame(self, error: PoisonRecord) -> bool:
        """Count a record that failed. True if the record is not the cause: too many failures in a row, or a failed trial."""
        was_open = bool(self.breaker.reason)
        words = f"{self._limit} records in a row failed and none was answered, the last with: {error}"
        if self.breaker.fail(words, self._clock.monotonic_s()):
            return False
        if not was_open:
            self._log.error("work is held back and tried again after growing pauses: mend the model or the task", cause=words)
        return True

    def next(self, waiting: Batcher) -> Rows | None:
        """Rows for a trial: the witness, else a sample of the waiting rows; None if there are none."""
        witness, self._witness = self._witness, None
        if witness is not None:
            return witness
        now_s = self._clock.monotonic_s()
        return waiting.close(now_s, self._clock.now_ms()) if self._in_order else waiting.sample(now_s)
