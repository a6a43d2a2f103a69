"""Prompts and answers of chat judged by the moderation task, over its topics: a client of ours on an event loop of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Thread
from typing import Any, Protocol

from schemas.errors import MillraceError
from streams.client import Client, connect
from streams.clock import SystemClock
from streams.ids import uuid7

TASK = "moderation"
START_LIMIT_S, LIMIT_MS = 30.0, 15_000
MOST_CHARACTERS = 20_000  # of a text: its end is judged, the beginning of an answer was


@dataclass(frozen=True, slots=True)
class Judged:
    """flagged: the categories, empty if the text passes. error: why there is no verdict; then nothing is known."""

    key: str
    flagged: tuple[str, ...] = ()
    error: str = ""


class Judge(Protocol):
    def judge(self, key: str, text: str) -> None:
        """A `Judged` with this key comes later. Does not wait."""
        ...

    def judged(self) -> list[Judged]:
        """Verdicts since the last call. Does not wait."""
        ...

    def close(self) -> None: ...


class Moderation:
    """Implements `Judge`. Raises BrokerUnavailable at the start."""

    def __init__(self, bootstrap: str, registry: str, name: str) -> None:
        self._judged: deque[Judged] = deque()
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, name="moderation", daemon=True).start()
        self._context = connect(bootstrap, registry, name)
        entered = asyncio.run_coroutine_threadsafe(self._context.__aenter__(), self._loop)
        self._client: Client = entered.result(START_LIMIT_S)

    def judge(self, key: str, text: str) -> None:
        asyncio.run_coroutine_threadsafe(self._judge(key, text[-MOST_CHARACTERS:]), self._loop)

    def judged(self) -> list[Judged]:
        return [self._judged.popleft() for _ in range(len(self._judged))]

    async def _judge(self, key: str, text: str) -> None:
        try:
            verdict = await self._client.request(
                TASK, {"content_id": f"chat-{uuid7(SystemClock().now_ms())}", "text": text}, deadline_ms=LIMIT_MS
            )
            self._judged.append(_of(key, verdict))
        except MillraceError as error:
            self._judged.append(Judged(key, error=f"{error.code}: {error}"))

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._context.__aexit__(None, None, None), self._loop).result(START_LIMIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)


def _of(key: str, verdict: Mapping[str, Any]) -> Judged:
    if verdict["status"] != "ok":
        return Judged(key, error=f"{verdict['status']}: {verdict['error_message'] or verdict['error_code']}")
    return Judged(key, tuple(one["category"] for one in verdict["categories"] if one["flagged"]))
