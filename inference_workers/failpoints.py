"""Points at which chaos tests kill a worker; without their variables this module has no effect.

`MILLRACE_KILL_AT=produced:3` kills the process the third time the loop reaches the point `produced`. `MILLRACE_KILL_ON=words`
kills it when a record that contains these bytes reaches the task, as a fault in a native library would.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping

from streams.loop.outcome import Outcome
from streams.loop.step import Process
from streams.rows import Rows


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(env: Mapping[str, str]) -> Callable[[str], None]:
    wanted, _, times = env.get("MILLRACE_KILL_AT", "").partition(":")
    if not wanted:
        return lambda reached: None
    left = [int(times or 1)]

    def reach(reached: str) -> None:
        if reached == wanted:
            left[0] -= 1
            if left[0] == 0:
                _die()

    return reach


def kill_on(env: Mapping[str, str], process: Process) -> Process:
    lethal = env.get("MILLRACE_KILL_ON", "").encode()
    if not lethal:
        return process

    def guarded(rows: Rows) -> list[Outcome]:
        if any(value is not None and lethal in value for value in rows.values):
            _die()
        return process(rows)

    return guarded
