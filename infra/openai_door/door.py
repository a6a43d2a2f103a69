"""What the routes share: the client of the topics, the models that answer, and the check of callers."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from infra import browser_guard
from infra.openai_door.response_bodies import Refused
from schemas.chat_topics import CHAT
from schemas.errors import InvalidRequest, MillraceError
from streams.chat_client import ChatClient
from streams.client import Client
from streams.clock import Clock
from streams.readable import Followed

MAX_BODY_BYTES = 4 * 1024 * 1024
SEEN_S = 15.0  # a worker that reported within this time runs
MOST_POLLS = 50  # of reports that came since the last look; a poll takes a thousand
MOST_WORKERS = 10_000


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
        """The models of the chat workers that run, with their versions. Raises BrokerUnavailable."""
        for _ in range(MOST_POLLS):
            if not (found := self.statuses.poll()):
                break
            self._workers |= {status["process"]: status for status in found if status["task"] == CHAT.group}
        now_ms = self.clock.now_ms()
        running = {name: one for name, one in self._workers.items() if abs(now_ms - one["at_ms"]) < SEEN_S * 1000}
        self._workers = dict(list(running.items())[-MOST_WORKERS:])
        return {name: version for one in self._workers.values() for name, version in one["versions"].items()}

    def check(self, request: Request) -> None:
        """Raises Refused."""
        headers = request.headers
        host = headers.get("host", "")
        if self.token:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                raise Refused(401, "the token is missing or wrong: send it as Authorization: Bearer TOKEN", "invalid_api_key")
        elif why := browser_guard.of_another_name(host):
            raise Refused(403, f"{why}. This door answers to other names once it has a token", "not-allowed")
        if why := browser_guard.of_another_site(host, headers.get("origin"), headers.get("sec-fetch-site")):
            raise Refused(403, why, "not-allowed")
        if request.method == "POST" and not browser_guard.is_json(headers.get("content-type")):
            raise Refused(400, browser_guard.NO_JSON, "invalid")

    async def body(self, request: Request) -> dict[str, Any]:
        """The caller's JSON. Raises Refused."""
        self.check(request)
        raw = bytearray()
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
