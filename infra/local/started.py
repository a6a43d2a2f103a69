"""A started process: identified by boot id and start tick; its children are found by an environment variable that they inherit.

Standard library only: `clean` runs before there is an environment.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LOG = "MILLRACE_LOG"  # set for every started process to the path of its log; its children keep it when their parent is killed
PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def birth(pid: int, proc: Path = PROC) -> str | None:
    """The start of a process as text to compare: boot id and clock ticks since boot (proc(5), field 22), which do not change
    when the clock is set. None if no such process runs; a zombie does not run."""
    if not proc.exists():
        return _birth_by_ps(pid)
    try:
        state, _, _, ticks = _stat(pid, proc)
        boot = (proc / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
    except (OSError, ValueError, IndexError):
        return None
    return None if state in "ZXx" else f"{boot}/{ticks}"


def _stat(pid: int, proc: Path) -> tuple[str, int, int, int]:
    """State, parent, session and start ticks. The name is in parentheses and may itself contain blanks and parentheses."""
    fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[3]), int(fields[19])


def _birth_by_ps(pid: int) -> str | None:
    """For systems without /proc."""
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C", "TZ": "UTC"})
    state, _, began = done.stdout.strip().partition(" ")
    return None if not began or state.startswith("Z") else " ".join(began.split())


def birth_of_time(pid: int, began_s: float, proc: Path = PROC) -> str:
    """The `birth` of a process whose start an earlier version recorded as a time. Empty if another process has the pid now."""
    try:
        boot_s = next(int(line.split()[1]) for line in (proc / "stat").read_text().splitlines() if line.startswith("btime "))
        began = boot_s + _stat(pid, proc)[3] / _TICKS_PER_S
    except (OSError, ValueError, IndexError, StopIteration):
        return ""
    return (birth(pid, proc) or "") if abs(began - began_s) < 1.0 else ""


@dataclass(frozen=True)
class Started:
    """born: its `birth`, which distinguishes it from a later process with the same pid."""

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
    """The log of every process that was started here or by such a process, except this one. Processes of other users are not
    visible; without /proc no process is."""
    logs = {}
    for folder in proc.glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended, or belongs to another user
            continue
        log = next((variable for variable in variables if variable.startswith(f"{LOG}=".encode())), None)
        if log is not None and folder.name != str(os.getpid()):
            logs[int(folder.name)] = os.fsdecode(log.partition(b"=")[2])
    return logs


def remains(started: Started) -> list[int]:
    """Running processes that it started, whether it still runs or not."""
    return [pid for pid, log in logs_by_pid().items() if log == started.log and pid != started.pid]


def of_folder(run_folder: Path) -> dict[int, str]:
    """Names by pid of all running processes whose log is in a run folder."""
    logs = (run_folder / "logs").resolve()
    return {pid: Path(log).stem for pid, log in logs_by_pid().items() if Path(log).parent == logs}


def strays(run_folder: Path, known: Iterable[Started]) -> dict[int, str]:
    """The processes of `of_folder` that belong to no living known process: left by a killed keeper, or never recorded."""
    kept = {process.pid for process in known if process.alive()}
    return {pid: name for pid, name in of_folder(run_folder).items() if not _is_of(pid, kept)}


def _is_of(pid: int, kept: set[int]) -> bool:
    """Whether the process is in the session of one of these, or descends from one."""
    while pid > 1:
        try:
            _, parent, session, _ = _stat(pid, PROC)
        except (OSError, ValueError, IndexError):
            return False
        if session in kept:
            return True
        pid = parent
    return False
