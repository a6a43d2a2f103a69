"""Kafka Connect: its connectors with their tasks, and the restart of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from infra.monitor.routes.shared_parts import Operator, Shown, TheMonitor
from infra.monitor.watching import servers
from infra.monitor.watching.servers import Connector
from schemas.errors import InvalidRequest

router = APIRouter(default_response_class=Shown)
UNKNOWN = "no Kafka Connect is known: `./millrace up --with connect` starts one, MILLRACE_CONNECT names one"


@dataclass(frozen=True)
class Connectors:
    """address: null where no Kafka Connect is known."""

    address: str | None
    connectors: list[Connector]


@dataclass(frozen=True)
class Restarted:
    restarted: str


@router.get("/api/connectors")
def connectors(monitor: TheMonitor) -> Connectors:
    """With their tasks; never their settings, which may hold passwords."""
    found = servers.connect(monitor.settings)
    return Connectors(found.address if found else None, found.connectors() if found else [])


@router.post("/api/connectors/{name}/restart")
def restart(monitor: TheMonitor, name: Annotated[str, Field(min_length=1, max_length=200)], actor: Operator) -> Restarted:
    """The connector and those of its tasks that failed."""
    found = servers.connect(monitor.settings)
    if found is None:
        raise InvalidRequest(UNKNOWN)
    monitor.actions.call(lambda: found.restart(name), "restart", name, actor, "the connector and its tasks")
    return Restarted(name)
