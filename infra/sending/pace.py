"""Controls how many requests may be in flight: as many as are answered in time, and no more. Pure except for the tasks that it
runs.

The time to an answer grows with the number of requests queued before it. So the window grows while answers come well within
the deadline and shrinks when they do not: by half after an answer that missed the deadline, by a fifth after a slow one (TCP
uses loss in the same way, TCP Vegas uses delay). It begins with one request, because nothing is known about the workers yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

FIRST = 1
MOST = 500
HELD = 4 * MOST  # answers that wait until an earlier one is printed

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Window:
    """target_s: an answer should take at most this long. size: how many requests may be in flight."""

    target_s: float
    size: float = FIRST
    uncut: int = 0  # answers still outstanding to requests in flight at the last cut: they cause no further cut

    def answered(self, took_s: float, in_time: bool) -> None:
        """Count one answer, or one request without an answer in time."""
        self.uncut = max(0, self.uncut - 1)
        if not in_time or took_s > self.target_s:
            if not self.uncut:
                self.uncut = int(self.size)
                self.size = max(1.0, self.size * (0.8 if in_time else 0.5))
        elif took_s < self.target_s / 2:
            self.size = min(float(MOST), self.size + 1.0)  # doubles in each round trip
        else:
            self.size = min(float(MOST), self.size + 1.0 / self.size)


async def in_order(items: Iterable[T], ask: Callable[[T], Awaitable[R]], window: Window) -> AsyncIterator[R]:
    """The answer to each item, in the order of the items, with at most `window.size` in flight."""
    waiting: deque[asyncio.Task[R]] = deque()
    in_flight, came = 0, asyncio.Event()

    async def run(item: T) -> R:
        nonlocal in_flight
        in_flight += 1
        try:
            return await ask(item)
        finally:
            in_flight -= 1
            came.set()

    for item in items:
        waiting.append(asyncio.create_task(run(item)))
        await asyncio.sleep(0)  # sends it now
        while in_flight >= int(window.size) or len(waiting) >= HELD:
            came.clear()
            await came.wait()
            while waiting and waiting[0].done():
                yield waiting.popleft().result()
    while waiting:
        yield await waiting.popleft()
