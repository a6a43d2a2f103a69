"""Rows of partitions whose owners died: they wait in order and run one by one in the quarantine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from schemas.errors import RetryLater
from streams.clock import Clock
from streams.loop.outcome import Outcome
from streams.loop.quarantine import Quarantine
from streams.rows import Place, Rows

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class Suspects:
    """is_suspect: whether the record at a place and offset is one. Without a quarantine every row is trusted."""

    def __init__(self, quarantine: Quarantine | None, is_suspect: Callable[[Place, int], bool], clock: Clock, log: Any) -> None:
        self._quarantine, self._is_suspect, self._clock, self._log = quarantine, is_suspect, clock, log
        self._waiting: deque[Rows] = deque()
        self._pause_s, self._from_s = 0.0, float("-inf")

    def __len__(self) -> int:
        return len(self._waiting)

    def among(self, rows: Rows) -> bool:
        """Whether the first of the rows is a suspect."""
        return self._quarantine is not None and self._is_suspect(rows.places[0], rows.offsets[0])

    def take_from(self, rows: Rows) -> Rows:
        """Keep the suspects; return the other rows."""
        if self._quarantine is None or not len(rows):
            return rows
        suspicious = [self._is_suspect(*at) for at in zip(rows.places, rows.offsets, strict=True)]
        self._waiting += [rows.take([i]) for i, suspect in enumerate(suspicious) if suspect]
        return rows.take([i for i, suspect in enumerate(suspicious) if not suspect])

    def put_back(self, rows: Rows) -> None:
        self._waiting.append(rows)

    def clear(self) -> None:
        self._waiting.clear()

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until the first may run; None if none waits."""
        return max(0.0, self._from_s - now_s) if self._waiting else None

    def run_first(self) -> Sequence[Outcome]:
        """Run the first and return its outcomes; none if the child process does not start, which is not the row's fault: then all wait,
        with growing pauses."""
        assert self._quarantine is not None
        try:
            outcomes = self._quarantine.run(self._waiting[0])
        except RetryLater as error:
            self._pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * self._pause_s))
            self._from_s = self._clock.monotonic_s() + self._pause_s
            self._log.error("suspects wait: the quarantine does not start", cause=str(error), again_in_s=self._pause_s)
            return ()
        self._pause_s = 0.0
        self._waiting.popleft()
        return outcomes

    def close(self) -> None:
        if self._quarantine is not None:
            self._quarantine.close()
