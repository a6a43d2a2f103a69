"""The OpenAI door without a broker: whom it answers, and how what goes wrong behind it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from infra.openai_door.door import MOST_WORKERS, Door
from infra.openai_door.door_app import create
from schemas.errors import BrokerUnavailable
from streams.clock import ManualClock
from tests.unit.streams.test_chat_client import Tail, run

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"


class Statuses:
    """The reports of workers, a part at a time."""

    def __init__(self, *parts: list[dict[str, Any]]) -> None:
        self.parts = list(parts)
        self.down = False

    def poll(self) -> list[dict[str, Any]]:
        if self.down:
            raise BrokerUnavailable("no broker")
        return self.parts.pop(0) if self.parts else []


def status(process: str, at_ms: int, **versions: str) -> dict[str, Any]:
    return {"process": process, "task": "chat", "at_ms": at_ms, "versions": versions}


Work = Callable[[httpx.AsyncClient, Door, Tail], Coroutine[Any, Any, None]]


def with_door(work: Work, token: str = "", deadline_ms: int = 300) -> None:
    async def opened(tail: Tail, streams: Any) -> None:
        cancelled: list[str] = []

        async def cancel(request_id: str, reason: str) -> None:
            cancelled.append(request_id)

        chat: Any = SimpleNamespace(streams=streams, cancel=cancel, cancelled=cancelled)
        statuses: Any = Statuses()
        door = Door(chat, SimpleNamespace(), statuses, ManualClock(), token, deadline_ms)  # type: ignore[arg-type]

        @asynccontextmanager
        async def nothing(app: FastAPI) -> AsyncIterator[None]:
            yield

        app = create(nothing)
        app.state.door = door
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as client:
            await work(client, door, tail)

    run(opened)


@pytest.mark.parametrize(
    ("headers", "code", "word"),
    [
        ({"host": "evil.example"}, 403, "host"),
        ({"origin": "http://evil.example"}, 403, "page of http://evil.example"),
        ({"origin": "null"}, 403, "page of null"),
        ({"sec-fetch-site": "cross-site"}, 403, "another site"),
        ({"content-type": "text/plain"}, 400, "application/json"),
        ({"content-type": ""}, 400, "application/json"),
        ({"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-origin"}, 400, "messages"),
    ],
)
@pytest.mark.parametrize("path", [PATH, "/v1/completions", "/v1/embeddings", f"{PATH}/r/cancel"])
def test_pages_of_other_sites_and_bodies_of_another_kind_are_refused(
    path: str, headers: Mapping[str, str], code: int, word: str
) -> None:
    async def work(client: httpx.AsyncClient, door: Door, tail: Tail) -> None:
        answer = await client.post(path, content=b"{}", headers={"content-type": "application/json", **headers})
        if "same-origin" in headers.values() and path != PATH:
            assert answer.status_code != 403
            return
        assert (answer.status_code, word in answer.json()["error"]["message"]) == (code, True), answer.text
        cancelled: Any = door.chat
        assert cancelled.cancelled == []
        listed = await client.get("/v1/models", headers={k: v for k, v in headers.items() if k != "content-type"})
        assert listed.status_code == (code if code == 403 else 200)

    with_door(work)


def test_with_a_token_other_names_are_answered_and_pages_of_other_sites_are_not() -> None:
    async def work(client: httpx.AsyncClient, door: Door, tail: Tail) -> None:
        named = {"host": "models.example", "authorization": "Bearer t"}
        assert (await client.get("/v1/models", headers=named)).status_code == 200
        assert (await client.get("/v1/models", headers={"host": "models.example"})).status_code == 401
        assert (await client.get("/v1/models", headers={**named, "origin": "http://evil.example"})).status_code == 403

    with_door(work, token="t")


def test_reports_are_read_to_their_end_and_the_models_of_workers_that_are_gone_are_left_out() -> None:
    async def work(client: httpx.AsyncClient, door: Door, tail: Tail) -> None:
        now_ms = door.clock.now_ms()
        reports: Any = door.statuses
        reports.parts = [[status("a", now_ms, old="1")], [status("a", now_ms, new="2")], [status("b", now_ms - 60_000, gone="1")]]
        reports.parts += [[status("c", now_ms + 10**9, future="1")], [{**status("d", now_ms, other="1"), "task": "vision"}]]
        listed = (await client.get("/v1/models")).json()["data"]
        assert [one["id"] for one in listed if one["id"] != "embedding"] == ["new"]
        reports.parts = [[status(f"p{i}", now_ms, m="1") for i in range(MOST_WORKERS + 5)]]
        await client.get("/v1/models")
        assert len(door._workers) == MOST_WORKERS
        reports.down = True
        failed = await client.get("/v1/models")
        assert (failed.status_code, failed.json()["error"]["code"]) == (504, "broker-unavailable")

    with_door(work)


def test_a_resumed_answer_that_never_ends_ends_its_stream_with_an_error() -> None:
    async def work(client: httpx.AsyncClient, door: Door, tail: Tail) -> None:
        tail.put("r", 0, 7)
        while not door.chat.streams.stream("r").known:
            await asyncio.sleep(0.01)
        answer = await client.get(f"{PATH}/chatcmpl-r/events?after=0")
        events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: {")]
        assert events[0]["choices"][0]["delta"]["content"] == "7"
        assert events[-1]["error"]["code"] == "tokens-missing"
        assert "[DONE]" not in answer.text

    with_door(work)


def test_numbers_beyond_all_bounds_are_no_error_of_ours() -> None:
    async def work(client: httpx.AsyncClient, door: Door, tail: Tail) -> None:
        body = json.dumps(HELLO)[:-1] + ', "top_p": 1%s, "n": 2}' % ("0" * 400)
        answer = await client.post(PATH, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, "n must be 1" in answer.text) == (400, True)
        body = json.dumps(HELLO)[:-1] + ', "presence_penalty": 1%s}' % ("0" * 400)
        answer = await client.post(PATH, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400

    with_door(work)
