"""What the routes share: the client of the topics, the models that answer, and the check of callers."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from infra.openai_door.response_bodies import Refused
from schemas.chat_topics import CHAT
from schemas.errors import InvalidRequest, MillraceError
from streams.chat_client import ChatClient
from streams.client import Client
from streams.clock import Clock
from streams.readable import Followed

MAX_BODY_BYTES = 4 * 1024 * 1024
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
SEEN_S = 15.0  # a worker that reported within this time runs


@dataclass
class Door:
    """token: what callers must send; empty for none, and then only names of this machine reach the door."""

    chat: ChatClient
    client: Client
    statuses: Followed[dict[str, Any]]
    clock: Clock
    token: str
    deadline_ms: int
    _workers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def chat_models(self) -> Mapping[str, str]:
        """The models of the chat workers that run, with their versions."""
        for status in self.statuses.poll():
            self._workers[status["process"]] = status
        oldest_ms = self.clock.now_ms() - SEEN_S * 1000
        running = [one for one in self._workers.values() if one["task"] == CHAT.group and one["at_ms"] > oldest_ms]
        return {name: version for one in running for name, version in one["versions"].items()}

    def check(self, request: Request) -> None:
        """Raises Refused."""
        if self.token:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                raise Refused(401, "the token is missing or wrong: send it as Authorization: Bearer TOKEN", "invalid_api_key")
        elif request.headers.get("host", "").rsplit(":", 1)[0] not in LOOPBACK:
            raise Refused(403, "this door answers to names of its own machine only, until it has a token", "not-allowed")

    async def body(self, request: Request) -> dict[str, Any]:
        """The caller's JSON. Raises Refused."""
        self.check(request)
        raw = b""
        async for part in request.stream():
            raw += part
            if len(raw) > MAX_BODY_BYTES:
                raise Refused(413, f"the body has more than {MAX_BODY_BYTES} bytes", "too-large")
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"the body is not JSON: {error}", "invalid") from error
        if not isinstance(found, dict):
            raise Refused(400, "the body must be an object", "invalid")
        return found


def of_error(error: MillraceError) -> Refused:
    return Refused(400 if isinstance(error, InvalidRequest) else 504, str(error), error.code)
