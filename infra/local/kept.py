"""What a keeper knows of the process that it keeps: a small file in the run folder, for `status`, `doctor` and the monitor."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

GOOD_RUN_S = 60.0  # a run that lasted so long ends a row of deaths
LOOP_AFTER = 3  # deaths in a row


@dataclass(frozen=True)
class Kept:
    """deaths: in all. in_a_row: those since the last good run. cause: how the last ended. said: the last line of its log.
    next_try_ms: when it is started again, while it waits for that. since_ms: of its present run, while it runs."""

    deaths: int = 0
    in_a_row: int = 0
    cause: str = ""
    said: str = ""
    next_try_ms: int | None = None
    since_ms: int | None = None

    def loops(self, now_ms: int) -> bool:
        """Whether it dies again and again."""
        good = self.since_ms is not None and now_ms - self.since_ms >= 1000 * GOOD_RUN_S
        return self.in_a_row >= LOOP_AFTER and not good

    def words(self, now_ms: int) -> str:
        """For people; empty where nothing is wrong."""
        if not self.loops(now_ms):
            return ""
        wait = "" if self.next_try_ms is None else f", next try in {max(0, self.next_try_ms - now_ms) / 1000:.0f} s"
        said = f": {self.said}" if self.said else ""
        return f"ended {self.in_a_row} times in a row{wait}; last with {self.cause}{said}"


def pause_s(in_a_row: int, fenced: bool) -> float:
    """Before the next start: 1 s, growing by half with each death, at most a minute. Another process has the place of a fenced one,
    or the broker gave up a transaction of its: at once it would only be fenced again, so it begins with 15 s."""
    return float(min(60.0, (15.0 if fenced else 1.0) * 1.5 ** (min(in_a_row, 30) - 1)))


def ending(code: int) -> str:
    """How a process ended, from what `Popen.wait` gave."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def file_of(log: Path) -> Path:
    """Beside the folder of logs."""
    return log.parents[1] / "kept" / f"{log.stem}.json"


def write(log: Path, kept: Kept) -> None:
    """Raises OSError."""
    file = file_of(log)
    file.parent.mkdir(parents=True, exist_ok=True)
    staging = file.with_suffix(".part")
    staging.write_text(json.dumps(asdict(kept)))
    os.replace(staging, file)


def read(log: Path) -> Kept:
    """What the keeper wrote last; nothing wrong where it wrote nothing that can be read."""
    try:
        held = Kept(**json.loads(file_of(log).read_text()))
        held.words(0)
        return held
    except (OSError, ValueError, TypeError, IndexError):
        return Kept()


def last_line(log: Path, start: int) -> str:
    """The last line with words that was written behind an offset, cut to a length for a table; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - 8_192))
            lines = [line.strip() for line in file.read().decode(errors="replace").split("\n")]
    except OSError:
        return ""
    return next((line[:300] for line in reversed(lines) if line), "")
