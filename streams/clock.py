"""Time, passed in everywhere: the only module that asks the machine for the time, or sleeps. Ruff bans `time` elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")
SHORTEST_BACKOFF_S = 1.0


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go backwards, from an arbitrary start."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """The result of a call, and how long it took in milliseconds."""
    started_s = time.perf_counter()
    result = call()
    return result, (time.perf_counter() - started_s) * 1000


class ManualClock:
    """A clock for tests: it moves only when somebody sleeps."""

    def __init__(self, now_ms: int = 1_764_000_000_000) -> None:
        self._now_ms = float(now_ms)
        self._monotonic_s = 0.0

    def now_ms(self) -> int:
        return int(self._now_ms)

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def sleep(self, seconds: float) -> None:
        self._now_ms += seconds * 1000
        self._monotonic_s += seconds


class Backoff:
    """A server that did not answer is not asked again for as long as the failed call took, at least SHORTEST_BACKOFF_S. So a caller
    with many queries waits for only one of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = (float("-inf"), "")  # one value, because callers on several threads may begin a pause

    def cause(self) -> str:
        """Why the server is not asked now; empty if it may be asked."""
        until_s, cause = self._until
        return cause if self._clock.monotonic_s() < until_s else ""

    def begin(self, call_began_s: float, cause: str) -> None:
        """A call that began at `call_began_s` of the monotonic clock failed. cause: not empty."""
        now_s = self._clock.monotonic_s()
        self._until = now_s + max(SHORTEST_BACKOFF_S, now_s - call_began_s), cause
