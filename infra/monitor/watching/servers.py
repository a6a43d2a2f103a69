"""What runs beside the loops: the processes that `up` started, Flink's jobs, and Kafka Connect where an address is set."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from infra.local import kept, run_state, tls
from infra.settings import StackSettings
from schemas.errors import BrokerUnavailable, InvalidRequest
from streams import local_http
from streams.clock import SystemClock
from streams.local_http import json_of

LIMIT_S = 5.0
MOST_BYTES = 4 * 1024 * 1024


def started(run_folder: Path) -> list[dict[str, Any]]:
    """Each process of `up`: its name, pid, address, whether it is alive, and in words whether it dies again and again."""
    now_ms = SystemClock().now_ms()
    return [
        {
            "name": one.name, "pid": one.pid, "address": one.address, "alive": one.alive(),
            "trouble": kept.read(Path(one.log)).trouble(now_ms),
        }
        for one in run_state.read(run_folder).processes
    ]  # fmt: skip


def troubles(processes_: list[dict[str, Any]]) -> dict[str, str]:
    """By the loops that such a process runs: what is wrong with it."""
    return {
        loop: f"{one['name']} {one['trouble']}"
        for one in processes_
        if one["trouble"]
        for loop in run_state.loops_of(one["name"])
    }


def jobs(run_folder: Path) -> list[dict[str, Any]]:
    """Flink's jobs, of each name the newest, with the busy share of its busiest task; empty where no cluster answers."""
    manager = run_state.read(run_folder).find("jobmanager")
    if manager is None or not manager.alive():
        return []
    keys = tls.context_of(run_folder)
    overview = json_of(f"{manager.address}/jobs/overview", keys) or {"jobs": []}
    newest = {job["name"]: job for job in sorted(overview["jobs"], key=lambda job: int(job["start-time"]))}
    return [
        {
            "name": job["name"], "state": job["state"], "since_ms": job["start-time"], "tasks": job["tasks"],
            "busy_share": _busy_share(f"{manager.address}/jobs/{job['jid']}", keys) if job["state"] == "RUNNING" else 0.0,
        }
        for job in newest.values()
    ]  # fmt: skip


def _busy_share(job: str, keys: ssl.SSLContext | None) -> float:
    worst = 0.0
    for vertex in (json_of(job, keys) or {"vertices": []})["vertices"]:
        url = f"{job}/vertices/{vertex['id']}/subtasks/metrics?get=busyTimeMsPerSecond&agg=max"
        found: Any = json_of(url, keys)
        for metric in found or []:
            if str(metric["max"]) != "NaN":
                worst = max(worst, float(metric["max"]) / 1000)
    return min(1.0, worst)


def connect(settings: StackSettings) -> Connect | None:
    """The Kafka Connect that the settings name, or that `up --with connect` started."""
    ours = run_state.read(settings.run_folder).find("connect")
    address = settings.connect or (ours.address if ours is not None and ours.alive() else None)
    mine = ours is not None and address == ours.address
    return Connect(address, tls.context_of(settings.run_folder) if mine else None) if address else None


class Connect:
    """Kafka Connect's REST API, as little of it as is shown. Raises BrokerUnavailable where it does not answer.

    address: may hold user and password, which are sent as basic authentication. keys: of the worker that we started."""

    def __init__(self, address: str, keys: ssl.SSLContext | None = None) -> None:
        scheme, _, rest = address.rstrip("/").partition("://")
        login, _, host = rest.rpartition("@")
        self._address, self._login = f"{scheme}://{host}", unquote(login)
        self._opener = local_http.opener(keys)

    @property
    def address(self) -> str:
        """Without the password."""
        return self._address

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
        headers = {"Content-Type": "application/json"}
        if self._login:
            headers["Authorization"] = f"Basic {base64.b64encode(self._login.encode()).decode()}"
        request = urllib.request.Request(self._address + path, body, headers, method=method)
        try:
            with self._opener.open(request, timeout=LIMIT_S) as answer:
                said = answer.read(MOST_BYTES)
                return json.loads(said) if said else {}
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise InvalidRequest("Kafka Connect has no connector of that name") from error
            raise BrokerUnavailable(f"Kafka Connect answers {error.code}") from error
        except (OSError, ValueError) as error:
            raise BrokerUnavailable(f"Kafka Connect at {self._address} does not answer: {error}") from error
