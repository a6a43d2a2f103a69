"""Prompts and answers of chat judged by the moderation task, over its topics: a client of ours on an event loop of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any, Protocol

from streams.client import Client, connect
from streams.clock import SystemClock
from streams.ids import uuid7

TASK = "moderation"
START_LIMIT_S, LIMIT_MS = 30.0, 15_000
PIECE_CHARACTERS, OVERLAP_CHARACTERS = 20_000, 500  # moderation judges this much of a text in windows that leave nothing out


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on a whole text. flagged: the categories, empty if it passes. error: why there is no verdict; then nothing is known."""

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
        asyncio.run_coroutine_threadsafe(self._judge(key, text), self._loop)

    def judged(self) -> list[Judged]:
        return [self._judged.popleft() for _ in range(len(self._judged))]

    async def _judge(self, key: str, text: str) -> None:
        try:
            verdicts = await asyncio.gather(*(self._verdict(piece) for piece in pieces(text)))
            self._judged.append(_of(key, verdicts))
        except Exception as error:  # an answer would wait for its verdict for ever
            self._judged.append(Judged(key, error=f"{getattr(error, 'code', type(error).__name__)}: {error}"))

    async def _verdict(self, text: str) -> Mapping[str, Any]:
        content = {"content_id": f"chat-{uuid7(SystemClock().now_ms())}", "text": text}
        return await self._client.request(TASK, content, deadline_ms=LIMIT_MS)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._context.__aexit__(None, None, None), self._loop).result(START_LIMIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)


def pieces(text: str) -> list[str]:
    """The whole text, in pieces that overlap. Pure."""
    step = PIECE_CHARACTERS - OVERLAP_CHARACTERS
    return [text[at : at + PIECE_CHARACTERS] for at in range(0, max(1, len(text) - OVERLAP_CHARACTERS), step)]


def _of(key: str, verdicts: Sequence[Mapping[str, Any]]) -> Judged:
    for verdict in verdicts:
        if verdict["status"] != "ok":
            return Judged(key, error=f"{verdict['status']}: {verdict['error_message'] or verdict['error_code']}")
    return Judged(
        key, tuple(sorted({one["category"] for verdict in verdicts for one in verdict["categories"] if one["flagged"]}))
    )
