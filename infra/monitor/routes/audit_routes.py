"""The audit, and the permissions of a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from infra.monitor.plain import extended, shown
from infra.monitor.routes.shared_parts import Anybody, Shown, TheMonitor
from schemas.generated import AuditEntry
from schemas.topics import AUDIT

router = APIRouter(default_response_class=Shown)


@dataclass(frozen=True, kw_only=True)
class Act(AuditEntry):
    """One act, with its outcome as far as it is known. begun_ms: of its first line."""

    begun_ms: int


@dataclass(frozen=True)
class Acts:
    """The newest first."""

    entries: list[Act]


@dataclass(frozen=True)
class Session:
    role: str
    actor: str


@router.get("/api/audit")
def audit(monitor: TheMonitor, limit: Annotated[int, Field(ge=1, le=1_000)] = 200) -> Acts:
    """Acts of the monitor and of the command line."""
    newest = [shown(one) for one in monitor.story.of(AUDIT.name)[-limit:][::-1]]
    return Acts([extended(Act, AuditEntry.from_dict(one), begun_ms=one["begun_ms"]) for one in newest])


@router.post("/api/session")
def session(actor: Anybody) -> Session:
    """What this token allows."""
    return Session(actor.role, actor.name)
