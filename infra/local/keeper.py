"""Keeps one process running: restarts it whenever it ends, with growing pauses, until the keeper itself is stopped.

`python -m infra.local.keeper NAME COMMAND…`. It never gives up, because the cause of a death may pass; a crash loop is
recorded (`kept.py`). A full disk does not end it either: none of the files that it writes is essential.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from infra.local.kept import GOOD_RUN_S, Kept, ending, last_line, pause_s, write
from infra.local.started import LOG

FENCED = 3  # the exit code of `schemas.errors.Fenced`
LOOK_EVERY_S = 0.1


@dataclass
class Keeper:
    """log: the log of the process; if it is None, no record is written."""

    name: str
    command: list[str]
    log: Path | None
    stopping: bool = False
    child: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Returns after `stop`."""
        kept = Kept()
        while not self.stopping:
            begun_s, size = time.monotonic(), self._log_size()
            kept = replace(kept, since_ms=_now_ms(), next_try_ms=None)
            self._record(kept)
            code = self._run_once()
            if self.stopping:
                break
            in_a_row = kept.in_a_row + 1 if time.monotonic() - begun_s < GOOD_RUN_S else 1
            wait_s = pause_s(in_a_row, code == FENCED)
            cause, log_line = ending(code), last_line(self.log, size) if self.log is not None else ""
            kept = Kept(kept.deaths + 1, in_a_row, cause, log_line, next_try_ms=_now_ms() + int(1000 * wait_s))
            self._record(kept)
            _print(f"{self.name} ended with {cause}, {in_a_row} times in a row; next start in {wait_s:.0f} s")
            self._wait(wait_s)
        self._record(Kept(kept.deaths))

    def stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True
        if self.child is not None:
            self.child.send_signal(signal.SIGTERM)

    def _run_once(self) -> int:
        try:
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL)
        except OSError as error:  # no memory, or the program is missing for now
            _print(f"{self.name} could not be started: {error}")
            return 1
        if self.stopping:  # the signal came before the child existed
            self.child.send_signal(signal.SIGTERM)
        return self.child.wait()

    def _wait(self, wait_s: float) -> None:
        """Sleeps in small parts, because a signal does not end a sleep."""
        until_s = time.monotonic() + wait_s
        while not self.stopping and time.monotonic() < until_s:
            time.sleep(LOOK_EVERY_S)

    def _log_size(self) -> int:
        with contextlib.suppress(OSError):
            return 0 if self.log is None else self.log.stat().st_size
        return 0

    def _record(self, kept: Kept) -> None:
        with contextlib.suppress(OSError):
            if self.log is not None:
                write(self.log, kept)


def _print(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _now_ms() -> int:
    return int(time.time() * 1000)


def main() -> int:
    log = os.environ.get(LOG)
    keeper = Keeper(sys.argv[1], sys.argv[2:], Path(log) if log else None)
    signal.signal(signal.SIGTERM, keeper.stop)
    signal.signal(signal.SIGINT, keeper.stop)
    keeper.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
