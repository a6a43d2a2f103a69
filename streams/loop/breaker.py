"""A circuit breaker: work is paused, for growing intervals, while the process seems to fail and not single records.

(Nygard, Release It!, "Circuit Breaker".) Pure; time is passed in.
"""

from __future__ import annotations

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 60.0


class Breaker:
    """Closed: work continues. Open: work is held until a time. Then half open: a trial closes it, or opens it for twice as long."""

    def __init__(self, limit: int) -> None:
        """limit: up to this many failures in a row count as failures of single records."""
        self._limit = limit
        self._failures = 0
        self._times = 0
        self._until_s = 0.0
        self.reason = ""  # why work is held back; empty while it is not

    def holds(self, now_s: float) -> bool:
        """True until it is time to try again."""
        return bool(self.reason) and now_s < self._until_s

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until it is time to try again; None while closed."""
        return max(0.0, self._until_s - now_s) if self.reason else None

    def fail(self, reason: str, now_s: float) -> bool:
        """Count a failure. False if the limit is exceeded or the breaker was open: then the record is not the cause."""
        if not self.reason:
            self._failures += 1
            if self._failures <= self._limit:
                return True
        self.open(reason, now_s)
        return False

    def open(self, reason: str, now_s: float) -> None:
        """The first trial comes soon: the failures may all have been of one sender. While it is open this changes nothing."""
        if self.holds(now_s):
            return
        self.reason, self._until_s = reason, now_s + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**self._times)
        self._times = min(self._times + 1, 30)

    def succeed(self) -> bool:
        """Close it. True if it was open."""
        was_open = bool(self.reason)
        self.reason, self._failures, self._times = "", 0, 0
        return was_open
