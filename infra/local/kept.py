"""A keeper's record of the process that it keeps running: a small file in the run folder, for `status`, `doctor` and the monitor."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

GOOD_RUN_S = 60.0  # a run of at least this length ends a series of deaths
LOOP_AFTER = 3  # consecutive deaths that count as a crash loop


@dataclass(frozen=True)
class Kept:
    """deaths: total number. in_a_row: deaths since the last good run. cause: how the last run ended. said: its last log line.
    next_try_ms: time of the next start, while the keeper waits for it. since_ms: start of the present run, while it runs."""

    deaths: int = 0
    in_a_row: int = 0
    cause: str = ""
    said: str = ""
    next_try_ms: int | None = None
    since_ms: int | None = None

    def loops(self, now_ms: int) -> bool:
        """Whether the process is in a crash loop."""
        good = self.since_ms is not None and now_ms - self.since_ms >= 1000 * GOOD_RUN_S
        return self.in_a_row >= LOOP_AFTER and not good

    def trouble(self, now_ms: int) -> str:
        """The crash loop in words; empty if there is none."""
        if not self.loops(now_ms):
            return ""
        wait = "" if self.next_try_ms is None else f", next try in {max(0, self.next_try_ms - now_ms) / 1000:.0f} s"
        last_line = f": {self.said}" if self.said else ""
        return f"ended {self.in_a_row} times in a row{wait}; last with {self.cause}{last_line}"


def pause_s(in_a_row: int, fenced: bool) -> float:
    """Pause before the next start: 1 s, 1.5 times longer after each further death, at most 60 s.

    After a fenced process it begins with 15 s: another process holds its place, or the broker has just aborted its transaction, and an
    immediate start would be fenced again."""
    return float(min(60.0, (15.0 if fenced else 1.0) * 1.5 ** (min(in_a_row, 30) - 1)))


def ending(code: int) -> str:
    """How a process ended. code: from `Popen.wait`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def file_of(log: Path) -> Path:
    """The record's file; its folder lies beside the folder of logs."""
    return log.parents[1] / "kept" / f"{log.stem}.json"


def write(log: Path, kept: Kept) -> None:
    """Raises OSError."""
    file = file_of(log)
    file.parent.mkdir(parents=True, exist_ok=True)
    staging = file.with_suffix(".part")
    staging.write_text(json.dumps(asdict(kept)))
    os.replace(staging, file)


def read(log: Path) -> Kept:
    """The keeper's last record; an empty one if there is none or it cannot be read."""
    try:
        kept = Kept(**json.loads(file_of(log).read_text()))
        kept.trouble(0)  # raises if a value has the wrong type
        return kept
    except (OSError, ValueError, TypeError, IndexError):
        return Kept()


def last_line(log: Path, start: int) -> str:
    """The last non-blank line after offset `start`, cut to 300 characters; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - 8_192))
            lines = [line.strip() for line in file.read().decode(errors="replace").split("\n")]
    except OSError:
        return ""
    return next((line[:300] for line in reversed(lines) if line), "")
