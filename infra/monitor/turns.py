"""Limits how many expensive questions (a process, or a search of topics) run at once; equal questions get the same answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import Any, TypeVar

from schemas.errors import Stop
from streams.clock import Clock

AT_ONCE = 2
MOST_WAITING = 16  # further questions are refused: each one is a Python process
KEPT_S = 5.0
MOST_READS = 12
T = TypeVar("T")


class TooMany(Stop):
    code = "too-many"


class Shared:
    """Answers by question: at most AT_ONCE are computed at the same time, and each is kept for KEPT_S."""

    def __init__(self, clock: Clock, at_once: int = AT_ONCE, most_waiting: int = MOST_WAITING) -> None:
        self._clock, self._most = clock, at_once + most_waiting
        self._pool, self._lock = ThreadPoolExecutor(at_once, "commands"), Lock()
        self._made: dict[Hashable, tuple[Future[Any], list[float]]] = {}  # with the time of completion

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: Hashable, make: Callable[[], T]) -> T:
        """Raises TooMany if too many other questions wait; otherwise raises as `make` does. A waiting caller takes no thread."""
        found: T = await asyncio.shield(asyncio.wrap_future(self._future(question, make)))
        return found

    def _future(self, question: Hashable, make: Callable[[], Any]) -> Future[Any]:
        with self._lock:
            now_s = self._clock.monotonic_s()
            self._made = {
                one: (future, done)
                for one, (future, done) in self._made.items()
                if not future.done() or (done and now_s - done[0] < KEPT_S and future.exception() is None)
            }
            known = self._made.get(question)
            if known is not None:
                return known[0]
            if sum(not future.done() for future, _ in self._made.values()) >= self._most:
                raise TooMany("too many commands wait already: ask again in a moment")
            future, done = self._pool.submit(make), list[float]()
            self._made[question] = future, done
        future.add_done_callback(lambda _: done.append(self._clock.monotonic_s()))
        return future


class Reads:
    """Readers of messages: each has its own Kafka client, and takes a thread of the server for seconds."""

    def __init__(self, most: int = MOST_READS) -> None:
        self._free = BoundedSemaphore(most)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Raises TooMany if none is free."""
        if not self._free.acquire(blocking=False):
            raise TooMany("too many read messages at this moment: ask again")
        try:
            yield
        finally:
            self._free.release()
