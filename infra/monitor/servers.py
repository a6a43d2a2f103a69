"""What runs beside the loops: the processes that `up` started, Flink's jobs, and Kafka Connect where an address is set."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from infra.local import kept, processes, state
from infra.settings import StackSettings
from schemas.errors import BrokerUnavailable, InvalidRequest
from streams.clock import SystemClock

LIMIT_S = 5.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def started(run_folder: Path) -> list[dict[str, Any]]:
    """Each process of `up`: its name, pid, address, whether it is alive, and in words whether it dies again and again. Nothing secret
    is in an address of ours."""
    now_ms = SystemClock().now_ms()
    return [
        {
            "name": one.name, "pid": one.pid, "address": _without_secret(one.address), "alive": one.alive(),
            "trouble": kept.read(Path(one.log)).words(now_ms),
        }
        for one in state.read(run_folder).processes
    ]  # fmt: skip


def troubles(processes_: list[dict[str, Any]]) -> dict[str, str]:
    """By the loops that such a process runs: what is wrong with it."""
    return {
        loop: f"{one['name']} {one['trouble']}" for one in processes_ if one["trouble"] for loop in state.loops_of(one["name"])
    }


def _without_secret(address: str) -> str:
    scheme, there, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if there else address


def jobs(run_folder: Path) -> list[dict[str, Any]]:
    """Flink's jobs, of each name the newest, with the busy share of its busiest task; empty where no cluster answers."""
    manager = state.read(run_folder).find("jobmanager")
    if manager is None or not manager.alive():
        return []
    overview = processes.json_of(f"{manager.address}/jobs/overview") or {"jobs": []}
    newest = {job["name"]: job for job in sorted(overview["jobs"], key=lambda job: int(job["start-time"]))}
    return [
        {
            "name": job["name"], "state": job["state"], "since_ms": job["start-time"], "tasks": job["tasks"],
            "busy_share": _busy_share(f"{manager.address}/jobs/{job['jid']}") if job["state"] == "RUNNING" else 0.0,
        }
        for job in newest.values()
    ]  # fmt: skip


def _busy_share(job: str) -> float:
    worst = 0.0
    for vertex in (processes.json_of(job) or {"vertices": []})["vertices"]:
        found: Any = processes.json_of(f"{job}/vertices/{vertex['id']}/subtasks/metrics?get=busyTimeMsPerSecond&agg=max")
        for metric in found or []:
            if str(metric["max"]) != "NaN":
                worst = max(worst, float(metric["max"]) / 1000)
    return min(1.0, worst)


def connect(settings: StackSettings) -> str | None:
    """Address of the Kafka Connect that the settings name, or that `up --with connect` started."""
    started = state.read(settings.run_folder).find("connect")
    return settings.connect or (started.address if started is not None and started.alive() else None)


class Connect:
    """Kafka Connect's REST API, as little of it as is shown. Raises BrokerUnavailable where it does not answer."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")

    def connectors(self) -> list[dict[str, Any]]:
        """Name, type, state and tasks; never its configuration, which may hold passwords."""
        found: Mapping[str, Any] = self._call("GET", "/connectors?expand=status")
        said = []
        for name, about in sorted(found.items()):
            status = about["status"]
            tasks = [{"id": t["id"], "state": t["state"], "trace": t.get("trace", "")[:2_000]} for t in status["tasks"]]
            said.append({"name": name, "type": status["type"], "state": status["connector"]["state"], "tasks": tasks})
        return said

    def restart(self, name: str) -> None:
        """The connector and those of its tasks that failed."""
        self._call("POST", f"/connectors/{quote(name, safe='')}/restart?includeTasks=true&onlyFailed=false")

    def _call(self, method: str, path: str) -> Any:
        body = b"" if method == "POST" else None
        request = urllib.request.Request(self._address + path, body, {"Content-Type": "application/json"}, method=method)
        try:
            with _OPENER.open(request, timeout=LIMIT_S) as answer:
                said = answer.read()
                return json.loads(said) if said else {}
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise InvalidRequest("Kafka Connect has no connector of that name") from error
            raise BrokerUnavailable(f"Kafka Connect answers {error.code}") from error
        except (OSError, ValueError) as error:
            raise BrokerUnavailable(f"Kafka Connect at {self._address} does not answer: {error}") from error
