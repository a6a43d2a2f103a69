"""Waits for other processes and threads."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.5
PATIENCE = 4  # limits are written for two cores and this suite alone; a slower machine is no test's failure


def until(done: Callable[[], bool], limit_s: float = 30.0, missing: str | Callable[[], str] = "what is waited for") -> None:
    """Raises AssertionError that names what is missing after PATIENCE times limit_s; if the message is a function, it is called
    only then."""
    limit_s *= PATIENCE
    deadline_s, pause_s = time.monotonic() + limit_s, FIRST_PAUSE_S
    while not done():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not after {limit_s:.0f} s: {missing if isinstance(missing, str) else missing()}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
