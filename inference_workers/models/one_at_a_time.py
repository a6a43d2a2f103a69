"""One process at a time makes a folder of a model."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import RetryLater
from streams.clock import Clock, SystemClock

LOOK_AGAIN_S = 0.2


@contextmanager
def alone(target: Path, wait_s: float = 0.0, clock: Clock | None = None) -> Iterator[None]:
    """Hold the lock of a folder that need not be there yet; the lock ends with its process. wait_s: for another process that holds it.
    Raises RetryLater if that process is not done by then."""
    clock = clock or SystemClock()
    target.parent.mkdir(parents=True, exist_ok=True)
    until_s = clock.monotonic_s() + wait_s
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if clock.monotonic_s() >= until_s:
                    raise RetryLater(f"{target.name} is being fetched by another process; try again when it is done") from error
                clock.sleep(LOOK_AGAIN_S)
        yield
