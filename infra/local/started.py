"""A process that we started: known by its boot and start tick, and what is left of it by a variable that its children inherit.

Standard library only: `clean` runs before there is an environment.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LOG = "MILLRACE_LOG"  # in the environment of all that we start, with the path of its log: children keep it when their parent is killed
PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def birth(pid: int, proc: Path = PROC) -> str | None:
    """When a process began, as text to compare: boot id and clock ticks since boot (proc(5), field 22), which no change of the clock
    moves. None where no such process runs; a zombie does not run."""
    if not proc.exists():
        return _birth_by_ps(pid)
    try:
        state, _, _, ticks = _stat(pid, proc)
        boot = (proc / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
    except (OSError, ValueError, IndexError):
        return None
    return None if state in "ZXx" else f"{boot}/{ticks}"


def _stat(pid: int, proc: Path) -> tuple[str, int, int, int]:
    """State, parent, session and start ticks. The name, in brackets, may hold blanks and brackets."""
    fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[3]), int(fields[19])


def _birth_by_ps(pid: int) -> str | None:
    """Where there is no /proc."""
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C", "TZ": "UTC"})
    state, _, began = done.stdout.strip().partition(" ")
    return None if not began or state.startswith("Z") else " ".join(began.split())


def birth_of_time(pid: int, began_s: float, proc: Path = PROC) -> str:
    """Of a process that an earlier version of ours wrote down by the clock. Empty where the pid is another's by now."""
    try:
        boot_s = next(int(line.split()[1]) for line in (proc / "stat").read_text().splitlines() if line.startswith("btime "))
        began = boot_s + _stat(pid, proc)[3] / _TICKS_PER_S
    except (OSError, ValueError, IndexError, StopIteration):
        return ""
    return (birth(pid, proc) or "") if abs(began - began_s) < 1.0 else ""


@dataclass(frozen=True)
class Started:
    """born: its `birth`, which tells it from a later process that was given the same pid."""

    name: str
    pid: int
    born: str
    log: str
    address: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def alive(self) -> bool:
        return bool(self.born) and birth(self.pid) == self.born


def logs_by_pid(proc: Path = PROC) -> dict[int, str]:
    """Of each process that we or our children started, this one left out: the log it was started with. Another user's are not seen,
    nor any where there is no /proc."""
    found = {}
    for folder in proc.glob("[0-9]*"):
        try:
            words = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended, or is another user's
            continue
        log = next((word for word in words if word.startswith(f"{LOG}=".encode())), None)
        if log is not None and folder.name != str(os.getpid()):
            found[int(folder.name)] = os.fsdecode(log.partition(b"=")[2])
    return found


def remains(started: Started) -> list[int]:
    """Processes that it started and that run, whether it does or not."""
    return [pid for pid, log in logs_by_pid().items() if log == started.log and pid != started.pid]


def of_folder(run_folder: Path) -> dict[int, str]:
    """All that was started with a log in a run folder and runs: its name by pid."""
    logs = (run_folder / "logs").resolve()
    return {pid: Path(log).stem for pid, log in logs_by_pid().items() if Path(log).parent == logs}


def strays(run_folder: Path, known: Iterable[Started]) -> dict[int, str]:
    """Of these, those of no known process that lives: left by a keeper that was killed, or by one that nobody wrote down."""
    kept = {process.pid for process in known if process.alive()}
    return {pid: name for pid, name in of_folder(run_folder).items() if not _is_of(pid, kept)}


def _is_of(pid: int, kept: set[int]) -> bool:
    """Whether it is in the session of one of them, or descends from one."""
    while pid > 1:
        try:
            _, parent, session, _ = _stat(pid, PROC)
        except (OSError, ValueError, IndexError):
            return False
        if session in kept:
            return True
        pid = parent
    return False
