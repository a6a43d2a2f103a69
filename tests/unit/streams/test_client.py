"""The client beside a reply partition on which anything may lie, and a registry that is slow or away."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from schemas import avro
from schemas.codec import Encoder
from schemas.errors import InvalidRequest, RetryLater
from schemas.topics import CONTENT, MODERATION_VERDICTS
from streams import headers as h
from streams.client import Client, NoAnswer
from streams.clock import SystemClock
from streams.rows import OutRecords, Polled
from streams.schema_registry import MemoryRegistry

FIELDS = {"content_id": "c", "text": "x"}


class Replies:
    def __init__(self) -> None:
        self.parts: queue.Queue[Polled | Exception] = queue.Queue()

    def wait(self, wait_s: float) -> Polled:
        try:
            part = self.parts.get(timeout=0.02)
        except queue.Empty:
            return Polled()
        if isinstance(part, Exception):
            raise part
        return part

    def close(self) -> None: ...


class Ids(MemoryRegistry):
    """away: of answers' schemas. slow_s: of everything that is encoded."""

    away = False
    slow_s = 0.0

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        if self.away:
            raise RetryLater("the registry does not answer")
        return super().schema_of(schema_id)

    def id_of(self, subject: str, schema: dict[str, Any]) -> int:
        time.sleep(self.slow_s)
        return super().id_of(subject, schema)


class RequestsAndReplies:
    """on_sent: what happens when a request has gone out, with its headers."""

    def __init__(self) -> None:
        self.ids, self.replies = Ids(), Replies()
        self.ids.register(CONTENT.subject, avro.schema("content"))
        self.ids.register(MODERATION_VERDICTS.subject, avro.schema("moderation-verdict"))
        self.on_sent: Callable[[dict[str, bytes]], None] = self.reply
        self.sent: list[dict[str, bytes]] = []
        self.value = _verdict(self.ids)

    def produce(self, out: OutRecords) -> None:
        self.sent.append(dict(out.headers[0]))
        self.on_sent(self.sent[-1])

    def close(self) -> None: ...

    def put(self, headers: h.HeaderList | None, value: bytes | None) -> None:
        self.replies.parts.put(Polled([("replies-v1", 3)], [0], [None], [value], [headers], [0]))

    def reply(self, asked: dict[str, bytes]) -> None:
        self.put([(h.CE_ID, asked[h.CE_ID]), (h.TRACEPARENT, asked[h.TRACEPARENT])], self.value)

    def run(self, story: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
        async def inside() -> Any:
            client = Client(self, self.replies, 3, self.ids, SystemClock(), "tests")  # type: ignore[arg-type]
            try:
                return await story(client)
            finally:
                client.close()

        return asyncio.run(inside())


def _verdict(ids: MemoryRegistry) -> bytes:
    example = next(iter(avro.examples("moderation-verdict").values()))
    schema = avro.schema("moderation-verdict")
    record = avro.from_json(example, schema)
    return Encoder.of(MODERATION_VERDICTS, ids).encode({k: [v] for k, v in record.items()}, 1)[0]


def test_what_lies_on_the_reply_partition_ends_no_listener() -> None:
    world = RequestsAndReplies()

    async def story(client: Client) -> Any:
        for headers in (
            None,
            [(h.CE_ID, b"")],
            [(h.CE_ID, b"\xff\xfe")],
            [(h.HEADERS_UNREADABLE, b"why")],
            [(h.CE_ID, b"another")],
        ):
            world.put(headers, b"junk")
        world.replies.parts.put(KeyError("not foreseen"))
        world.replies.parts.put(RuntimeError("not foreseen"))
        return await client.request("moderation", FIELDS, deadline_ms=8_000)

    assert world.run(story)["status"]


def test_a_forged_reply_that_cannot_be_read_does_not_take_the_place_of_the_answer() -> None:
    world = RequestsAndReplies()

    def forged(asked: dict[str, bytes]) -> None:
        for value in (None, b"", b"junk", world.value[:-2]):
            world.put([(h.CE_ID, asked[h.CE_ID])], value)
        world.reply(asked)

    world.on_sent = forged
    assert world.run(lambda client: client.request("moderation", FIELDS, deadline_ms=8_000))["status"]


def test_an_answer_whose_schema_is_not_at_hand_waits_for_it_and_the_others_are_not_lost() -> None:
    world = RequestsAndReplies()
    world.ids.away = True

    async def story(client: Client) -> Any:
        both = [asyncio.ensure_future(client.request("moderation", FIELDS, deadline_ms=8_000)) for _ in range(2)]
        await asyncio.sleep(0.3)
        world.ids.away = False
        return await asyncio.gather(*both)

    assert len(world.run(story)) == 2


def test_an_id_that_is_under_way_is_refused_at_once_and_the_first_is_answered() -> None:
    world = RequestsAndReplies()
    world.on_sent = lambda asked: None

    async def story(client: Client) -> Any:
        first = asyncio.ensure_future(client.request("moderation", FIELDS, deadline_ms=8_000, request_id="r"))
        await asyncio.sleep(0.1)
        with pytest.raises(InvalidRequest, match="under way"):
            await client.request("moderation", FIELDS, request_id="r")
        world.reply(world.sent[0])
        return await first

    assert world.run(story)["status"]


def test_a_late_answer_of_an_earlier_try_is_not_given_to_a_later_one() -> None:
    world = RequestsAndReplies()
    world.on_sent = lambda asked: None

    async def story(client: Client) -> None:
        with pytest.raises(NoAnswer):
            await client.request("moderation", FIELDS, deadline_ms=-1_900, request_id="r")
        second = asyncio.ensure_future(client.request("moderation", FIELDS, deadline_ms=8_000, request_id="r"))
        await asyncio.sleep(0.1)
        world.reply(world.sent[0])
        await asyncio.sleep(0.2)
        assert not second.done()
        world.reply(world.sent[1])
        await second

    world.run(story)


@pytest.mark.parametrize("request_id", ["x" * 129, "é" * 65, "", "\ud800"])
def test_an_id_that_no_worker_takes_is_refused_here(request_id: str) -> None:
    world = RequestsAndReplies()
    with pytest.raises(InvalidRequest):
        world.run(lambda client: client.request("moderation", FIELDS, request_id=request_id))
    assert world.sent == []


def test_an_id_of_128_bytes_is_taken() -> None:
    assert RequestsAndReplies().run(lambda client: client.request("moderation", FIELDS, deadline_ms=8_000, request_id="x" * 128))[
        "status"
    ]


@pytest.mark.parametrize(
    "fields", [{"content_id": "\ud800", "text": "x"}, {"content_id": "c", "text": "\ud800"}, {"content_id": 5}]
)
def test_fields_that_no_record_holds_are_an_invalid_request(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        RequestsAndReplies().run(lambda client: client.request("moderation", fields))


@pytest.mark.parametrize("deadline_ms", [2**63, 10**400, -(10**9)])
def test_a_deadline_that_nobody_can_wait_for_is_an_invalid_request(deadline_ms: int) -> None:
    with pytest.raises(InvalidRequest):
        RequestsAndReplies().run(lambda client: client.request("moderation", FIELDS, deadline_ms=deadline_ms))


def test_a_slow_registry_does_not_stop_the_event_loop() -> None:
    world = RequestsAndReplies()
    world.ids.slow_s = 0.4

    async def story(client: Client) -> int:
        asked = asyncio.ensure_future(client.request("moderation", FIELDS, deadline_ms=8_000))
        turns = 0
        while not world.sent:
            await asyncio.sleep(0.005)
            turns += 1
        await asked
        return turns

    assert world.run(story) > 5
