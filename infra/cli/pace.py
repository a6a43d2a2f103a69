"""How many requests may be under way: as many as are answered in time, and no more. Pure but for the tasks that it runs.

An answer's time grows with what is in front of it, so the window grows while answers come well within the deadline and shrinks when
they do not: by a half where one failed to come in time, by a fifth where they are slow (as TCP does by loss, and TCP Vegas by delay).
It begins with one, as nothing is known of who answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

FIRST = 1
MOST = 500
HELD = 4 * MOST  # answers that wait for an earlier one, whose turn it is

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Window:
    """target_s: an answer should take no longer. size: how many may be under way."""

    target_s: float
    size: float = FIRST
    uncut: int = 0  # answers to what was under way at the last cut, which are no reason for another

    def answered(self, took_s: float, in_time: bool) -> None:
        """One answer came, or did not."""
        self.uncut = max(0, self.uncut - 1)
        if not in_time or took_s > self.target_s:
            if not self.uncut:
                self.uncut = int(self.size)
                self.size = max(1.0, self.size * (0.8 if in_time else 0.5))
        elif took_s < self.target_s / 2:
            self.size = min(float(MOST), self.size + 1.0)  # doubles each time around
        else:
            self.size = min(float(MOST), self.size + 1.0 / self.size)


async def in_order(items: Iterable[T], ask: Callable[[T], Awaitable[R]], window: Window) -> AsyncIterator[R]:
    """The answer to each item, in the order of the items, with at most `window.size` under way."""
    waiting: deque[asyncio.Task[R]] = deque()
    under_way, came = 0, asyncio.Event()

    async def run(item: T) -> R:
        nonlocal under_way
        under_way += 1
        try:
            return await ask(item)
        finally:
            under_way -= 1
            came.set()

    for item in items:
        waiting.append(asyncio.create_task(run(item)))
        await asyncio.sleep(0)  # it is sent now
        while under_way >= int(window.size) or len(waiting) >= HELD:
            came.clear()
            await came.wait()
            while waiting and waiting[0].done():
                yield waiting.popleft().result()
    while waiting:
        yield await waiting.popleft()
