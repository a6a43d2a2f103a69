"""Weighted shares of one device among the loops of a process: the loop with the least used time per weight goes next.

Start-time fair queueing (Goyal, Vin and Cheng, 1996) with a batch as the packet: a loop that was idle starts at the present
virtual time, so that it neither waits for the time that others used meanwhile nor gets credit for time that it did not use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Condition

from schemas.errors import DependencyUnavailable
from streams.clock import Clock
from streams.loop.outcome import Outcome
from streams.rows import Rows

TURN_LIMIT_S = 60.0


class Shares:
    """weights: by name, above 0. Only one loop holds the device at a time; batches are not interrupted."""

    def __init__(self, weights: Mapping[str, float], clock: Clock, limit_s: float = TURN_LIMIT_S) -> None:
        self._weights, self._clock, self._limit_s = dict(weights), clock, limit_s
        self._served = dict.fromkeys(weights, 0.0)  # virtual time: seconds held / weight
        self._waiting: set[str] = set()
        self._present = 0.0
        self._held = False
        self._changed = Condition()

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Wait for the device, and hold it. Raises DependencyUnavailable if it is not free within the limit."""
        with self._changed:
            self._served[name] = max(self._served[name], self._present)
            self._waiting.add(name)
            try:
                if not self._changed.wait_for(lambda: not self._held and self._next() == name, self._limit_s):
                    raise DependencyUnavailable(f"the device was not free for {name} within {self._limit_s:.0f} s")
            finally:
                self._waiting.discard(name)
                self._changed.notify_all()
            self._held = True
            self._present = self._served[name]
        started_s = self._clock.monotonic_s()
        try:
            yield
        finally:
            with self._changed:
                self._served[name] += (self._clock.monotonic_s() - started_s) / self._weights[name]
                self._held = False
                self._changed.notify_all()

    def _next(self) -> str:
        return min(self._waiting, key=lambda name: (self._served[name], name))

    def shared(self, name: str, process: Callable[[Rows], list[Outcome]]) -> Callable[[Rows], list[Outcome]]:
        """A function that does the same work, in its turn."""

        def in_turn(rows: Rows) -> list[Outcome]:
            with self.turn(name):
                return process(rows)

        return in_turn
