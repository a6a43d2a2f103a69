"""`./millrace status` and `logs`: the processes of the stack, their state and the report of each worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra import console
from infra.local import kept, processes, run_state, started
from infra.running import addresses
from infra.settings import StackSettings
from schemas.errors import BadSettings, MillraceError
from schemas.topics import WORKER_STATUS
from streams.clock import SystemClock
from streams.kafka.readback import records
from streams.terminal_text import as_json as json_line
from streams.terminal_text import visible

REPORTED = ("records_in", "dead_letters", "in_flight", "busy_share", "versions", "notes", "metrics_address")
COLUMNS = ("loop", "pid", "state", "address", "records in", "dead letters", "in flight", "busy", "live version")


def status(settings: StackSettings, as_json: bool) -> None:
    running = run_state.read(settings.run_folder)
    rows = _rows(settings, running)
    if as_json:
        print(json_line({"up": running.up, "processes": rows}), flush=True)
    elif rows:
        _print(rows)
    else:
        console.out.print("nothing was started: `./millrace up` starts the stack")


def _rows(settings: StackSettings, running: run_state.State) -> list[dict[str, Any]]:
    """One row per loop of each process; one row per server."""
    statuses = last_statuses(settings) if running.up else {}
    names_by_pid, now_ms = started.of_folder(settings.run_folder), SystemClock().now_ms()
    rows: list[dict[str, Any]] = []
    for process in running.processes:
        base = {"process": process.name, "pid": process.pid, **state_of(process, names_by_pid, now_ms)}
        for loop in run_state.loops_of(process.name):
            reported = statuses.get(loop, {})
            rows.append({**base, "loop": loop, "address": process.address, **{name: reported.get(name) for name in REPORTED}})
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    console.table(
        "processes",
        COLUMNS,
        [
            (
                row["loop"],
                str(row["pid"]),
                row["state"],
                row["address"] or row["metrics_address"] or "",
                *("" if row[name] is None else str(row[name]) for name in ("records_in", "dead_letters", "in_flight")),
                "" if row["busy_share"] is None else f"{100 * row['busy_share']:.0f} %",
                ", ".join(f"{model} {version}" for model, version in (row["versions"] or {}).items()),
            )
            for row in rows
        ],
        right=("pid", "records in", "dead letters", "in flight", "busy"),
    )
    for name, trouble in {row["process"]: row["trouble"] for row in rows if row["trouble"]}.items():
        console.out.print(f"[red]{console.escape(name)}[/]: {console.escape(trouble)}")
    for row in rows:
        for note in row["notes"] or ():
            console.out.print(f"{console.escape(row['loop'])}: {console.escape(note)}")


def state_of(process: started.Started, names_by_pid: Mapping[int, str], now_ms: int) -> dict[str, str]:
    """state: running, crash loop, stopped, or unkept (its keeper was killed, but the process itself still runs). trouble: the
    reason as text, empty if there is no problem. names_by_pid: from `started.of_folder`."""
    if not process.alive():
        pids = sorted(pid for pid, name in names_by_pid.items() if name == process.name)
        if not pids:
            return {"state": "stopped", "trouble": ""}
        trouble = f"its keeper was killed, but pid {', '.join(map(str, pids))} still runs: `./millrace up` repairs this"
        return {"state": "unkept", "trouble": trouble}
    trouble = kept.read(Path(process.log)).trouble(now_ms)
    return {"state": "crash loop" if trouble else "running", "trouble": trouble}


def last_statuses(settings: StackSettings) -> dict[str, dict[str, Any]]:
    """The last status of each worker, by its name."""
    try:
        address, registry = addresses(settings)
        return {record["process"]: record for record in records(address, WORKER_STATUS, registry)}
    except MillraceError as error:
        console.err.print(f"the status of the workers cannot be read: {console.escape(str(error))}")
        return {}


def logs(settings: StackSettings, name: str, lines: int) -> None:
    """Raises BadSettings if no process of that name has a log."""
    folder = settings.run_folder / "logs"
    files = sorted(folder.glob("*.log")) if folder.exists() else []
    chosen = [file for file in files if name in ("", file.stem)]
    if not chosen:
        existing = ", ".join(file.stem for file in files) or "none"
        raise BadSettings(f"there is no log of {name or 'any process'} in {folder}; existing logs: {existing}")
    for file in chosen:
        console.out.print(f"[bold]{file.stem}[/]  [dim]{file}[/]")
        print(visible(processes.log_tail(file, lines).partition("\n")[2]))
