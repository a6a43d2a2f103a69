"""The processes beside the loops: those that `up` started, Flink's jobs, and Kafka Connect if an address is set."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
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
MOST_TRACE_CHARS = 2_000


@dataclass(frozen=True)
class Process:
    """Of `up`. trouble: in words, where it dies again and again; else empty."""

    name: str
    pid: int
    address: str
    alive: bool
    trouble: str


@dataclass(frozen=True)
class Job:
    """Of Flink. tasks: how many are in each state. busy_share: of its busiest task, 0 to 1."""

    name: str
    state: str
    since_ms: int
    tasks: dict[str, int]
    busy_share: float


@dataclass(frozen=True)
class ConnectorTask:
    """trace: why it failed, cut off."""

    id: int
    state: str
    trace: str


@dataclass(frozen=True)
class Connector:
    name: str
    type: str
    state: str
    tasks: list[ConnectorTask]


def started(run_folder: Path) -> list[Process]:
    """Each process of `up`."""
    now_ms = SystemClock().now_ms()
    return [
        Process(one.name, one.pid, one.address, one.alive(), kept.read(Path(one.log)).trouble(now_ms))
        for one in run_state.read(run_folder).processes
    ]


def troubles(found: list[Process]) -> dict[str, str]:
    """The problem of each process, by the names of the loops that it runs."""
    return {loop: f"{one.name} {one.trouble}" for one in found if one.trouble for loop in run_state.loops_of(one.name)}


def jobs(run_folder: Path) -> list[Job]:
    """Flink's jobs, the newest of each name; empty if no cluster answers."""
    manager = run_state.read(run_folder).find("jobmanager")
    if manager is None or not manager.alive():
        return []
    keys = tls.context_of(run_folder)
    overview = json_of(f"{manager.address}/jobs/overview", keys) or {"jobs": []}
    newest = {job["name"]: job for job in sorted(overview["jobs"], key=lambda job: int(job["start-time"]))}
    found = []
    for job in newest.values():
        busy_share = _busy_share(f"{manager.address}/jobs/{job['jid']}", keys) if job["state"] == "RUNNING" else 0.0
        found.append(Job(job["name"], job["state"], int(job["start-time"]), job["tasks"], busy_share))
    return found


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
    """The Kafka Connect in the settings, or the one that `up --with connect` started."""
    ours = run_state.read(settings.run_folder).find("connect")
    address = settings.connect or (ours.address if ours is not None and ours.alive() else None)
    mine = ours is not None and address == ours.address
    return Connect(address, tls.context_of(settings.run_folder) if mine else None) if address else None


class Connect:
    """The part of Kafka Connect's REST API that the monitor shows. Raises BrokerUnavailable if it does not answer.

    address: may contain user and password, which are sent as basic authentication. keys: of the worker that we started."""

    def __init__(self, address: str, keys: ssl.SSLContext | None = None) -> None:
        scheme, _, rest = address.rstrip("/").partition("://")
        login, _, host = rest.rpartition("@")
        self._address, self._login = f"{scheme}://{host}", unquote(login)
        self._opener = local_http.opener(keys)

    @property
    def address(self) -> str:
        """The address without the password."""
        return self._address

    def connectors(self) -> list[Connector]:
        """Never with their configuration, which may contain passwords."""
        found: Mapping[str, Any] = self._call("GET", "/connectors?expand=status")
        said = []
        for name, about in sorted(found.items()):
            status = about["status"]
            tasks = [ConnectorTask(t["id"], t["state"], t.get("trace", "")[:MOST_TRACE_CHARS]) for t in status["tasks"]]
            said.append(Connector(name, status["type"], status["connector"]["state"], tasks))
        return said

    def restart(self, name: str) -> None:
        """Restart the connector and its failed tasks."""
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
