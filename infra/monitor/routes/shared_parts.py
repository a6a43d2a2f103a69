"""The parts that all routes share: JSON that every parser accepts, the types of their parameters, the monitor, and the
permitted roles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from infra import redact
from infra.monitor import safety
from infra.monitor.plain import as_json
from infra.monitor.safety import Actor
from infra.monitor.services import Monitor


class Shown(JSONResponse):
    """The system's own information, without secrets."""

    def render(self, content: Any) -> bytes:
        return as_json(redact.tree(content))


class Payload(JSONResponse):
    """Records of a topic, shown exactly as they were written."""

    def render(self, content: Any) -> bytes:
        return as_json(content)


class Body(BaseModel):
    """The body of a request: unknown fields are refused, and no value is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._][A-Za-z0-9._-]{0,99}$")]
Int32 = Annotated[int, Field(ge=0, lt=2**31)]
Int64 = Annotated[int, Field(ge=0, lt=2**63)]
Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]


async def _monitor(request: Request) -> Monitor:
    """Asynchronous, because a synchronous dependency takes a thread of the server for each request."""
    found: Monitor = request.app.state.monitor
    return found


TheMonitor = Annotated[Monitor, Depends(_monitor)]


def _allowed(*roles: str) -> Callable[..., Awaitable[Actor]]:
    async def check(monitor: TheMonitor, authorization: Annotated[str | None, Header()] = None) -> Actor:
        actor = safety.actor_of(authorization, monitor.tokens)
        if actor is None:
            raise safety.NotAllowed("this needs a token: `./millrace monitor --tokens` prints them")
        if actor.role not in roles:
            raise safety.NotAllowed(f"this needs the token of {' or '.join(roles)}; yours is that of {actor.role}")
        return actor

    return check


Operator = Annotated[Actor, Depends(_allowed("operator"))]
Releaser = Annotated[Actor, Depends(_allowed("releaser"))]
Anybody = Annotated[Actor, Depends(_allowed(*safety.ROLES))]
