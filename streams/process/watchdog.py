"""Ends a process whose loop stands still, so that its group and its keeper notice."""

from __future__ import annotations

import faulthandler
from dataclasses import dataclass

from streams.clock import Clock
from streams.loop.loop import Loop
from streams.loop.processor import Periodic

STALL_LIMIT_S = 240.0  # below max.poll.interval.ms, so that the process ends before the group removes it


class Watchdog:
    """Ends the process with a stack trace if one of its loops, or a call of its step on another thread, stands still for more
    than STALL_LIMIT_S. Then the group continues without it, its claims stay, and the next owners find the record that caused
    it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen_s: dict[str, float] = {}
        self._armed_s = float("-inf")

    def of(self, loop: Loop) -> Periodic:
        """The periodic work that reports this loop to the watchdog between batches."""
        return _Watched(self, loop)

    def saw(self, loop: str, working_since_s: float | None) -> None:
        now_s = self._clock.monotonic_s()
        self._seen_s[loop] = now_s if working_since_s is None else working_since_s
        if now_s - self._armed_s >= 1.0:
            self._armed_s = now_s
            faulthandler.dump_traceback_later(self.left_s(now_s), exit=True)

    def left_s(self, now_s: float) -> float:
        """Seconds until the process ends if no loop makes progress."""
        return max(0.1, STALL_LIMIT_S - (now_s - min(list(self._seen_s.values()))))


@dataclass(frozen=True)
class _Watched:
    watchdog: Watchdog
    loop: Loop

    def tick(self) -> None:
        self.watchdog.saw(self.loop.worker, self.loop.step.working_since_s())
