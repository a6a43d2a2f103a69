"""A client's streams of tokens: many readers, each at a position of its own, of what a topic brought so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from schemas import avro
from schemas.chat_topics import CHAT_TOKENS
from schemas.codec import Encoder
from schemas.errors import MillraceError, RetryLater
from schemas.generated import ChatToken, ChatTokens
from streams import chat_client
from streams.chat_client import Asking, ChatStreams, TokensMissing
from streams.clock import ManualClock
from streams.rows import Polled
from streams.schema_registry import MemoryRegistry

IDS = MemoryRegistry()
IDS.register(CHAT_TOKENS.subject, avro.schema(CHAT_TOKENS.record_name))


class Tail:
    def __init__(self) -> None:
        self._parts: SimpleQueue[Polled] = SimpleQueue()

    def put(self, request_id: str, sequence: int, *tokens: int, last: bool = False, model: str = "", at_ms: int = 0) -> None:
        made = tuple(ChatToken(token=token, text=str(token)) for token in tokens)
        record = ChatTokens(
            request_id=request_id, attempt=1, sequence=sequence, tokens=made, last=last, finish_reason="stop", model=model
        )
        self.put_value(Encoder.of(CHAT_TOKENS, IDS).encode_one(record), request_id, at_ms)

    def put_value(self, value: bytes, key: str = "k", at_ms: int = 0) -> None:
        self._parts.put(Polled([(CHAT_TOKENS.name, 0)], [0], [key.encode()], [value], [None], [at_ms]))

    def wait(self, wait_s: float) -> Polled:
        try:
            return self._parts.get(timeout=0.01)
        except Empty:
            return Polled()

    def close(self) -> None:
        return


def run(work: Callable[[Tail, ChatStreams], Coroutine[Any, Any, None]], clock: ManualClock | None = None) -> None:
    async def connected() -> None:
        tail = Tail()
        streams = ChatStreams(tail, IDS, clock or ManualClock())
        try:
            await asyncio.wait_for(work(tail, streams), 20)
        finally:
            streams.close()

    asyncio.run(connected())


async def read(streams: ChatStreams, request_id: str, after: int = 0) -> list[int]:
    return [token.token async for token in streams.tokens(request_id, after)]


def test_readers_at_different_positions_read_to_the_end() -> None:
    async def work(tail: Tail, streams: ChatStreams) -> None:
        early = asyncio.create_task(read(streams, "r"))
        tail.put("r", 0, 1, 2)
        tail.put("other", 0, 9, last=True)
        tail.put_value(b"no record")
        tail.put("r", 2, 3)
        tail.put("r", 3, 4, last=True)
        assert await early == [1, 2, 3, 4]
        assert await read(streams, "r", after=3) == [4]
        assert await read(streams, "other") == [9]

    run(work)


def test_a_gap_is_an_error_and_not_a_text_with_a_hole() -> None:
    async def work(tail: Tail, streams: ChatStreams) -> None:
        tail.put("r", 2, 3, last=True)
        with pytest.raises(TokensMissing, match="from position 0"):
            await read(streams, "r")

    run(work)


def test_old_streams_are_given_up_but_those_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_client, "KEPT_BYTES", 3 * chat_client.STREAM_BYTES)

    async def work(tail: Tail, streams: ChatStreams) -> None:
        reading = asyncio.create_task(read(streams, "a"))
        await asyncio.sleep(0)
        for name in ("a", "b", "c", "d"):
            tail.put(name, 0, 1)
        tail.put("last", 0, last=True)
        assert await read(streams, "last") == []
        assert streams.stream("a").known and streams.stream("last").known
        assert not streams.stream("b").known
        tail.put("a", 1, 2, last=True)
        assert await reading == [1, 2]

    run(work)


def test_a_result_without_tokens_ends_its_stream_with_its_error() -> None:
    async def work(tail: Tail, streams: ChatStreams) -> None:
        async def fails() -> dict[str, Any]:
            raise MillraceError("nobody answers")

        asking = Asking("r", streams, asyncio.ensure_future(fails()))
        with pytest.raises(MillraceError, match="nobody answers"):
            [token async for token in asking]

    run(work)


@pytest.mark.parametrize("reads_back", [True, False])
def test_a_reader_that_reads_old_tokens_back_is_waited_for_and_one_that_stands_is_not(
    reads_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_client, "LAST_TOKENS_S", 0.2)
    clock = ManualClock()

    async def work(tail: Tail, streams: ChatStreams) -> None:
        async def answered() -> dict[str, Any]:
            return {}

        async def others() -> None:
            for number in range(10):
                tail.put("other", number, 1, at_ms=clock.now_ms() - 60_000 + (number if reads_back else 0))
                await asyncio.sleep(0.1)
            tail.put("r", 0, 1, 2, last=True, at_ms=clock.now_ms())

        before = asyncio.create_task(others())
        await asyncio.sleep(0.05)
        asking = Asking("r", streams, asyncio.ensure_future(answered()))
        if reads_back:
            assert [token.token async for token in asking] == [1, 2]
        else:
            with pytest.raises(TokensMissing, match="its last tokens did not come"):
                [token async for token in asking]
        await before

    run(work, clock)


def test_memory_is_counted_in_bytes_and_one_answer_without_end_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_client, "MOST_STREAM_BYTES", 20_000)
    monkeypatch.setattr(chat_client, "KEPT_BYTES", 60_000)

    async def work(tail: Tail, streams: ChatStreams) -> None:
        for name in range(20):
            tail.put(f"r{name}", 0, *range(40), last=True)
        for name in range(20):
            tail.put(f"large{name}", 0, model="x" * 10_000)
        tail.put("last", 0, last=True)
        assert await read(streams, "last") == []
        assert streams._bytes == sum(stream.size for stream in streams._streams.values()) <= 60_000
        assert 2 <= len(streams._streams) < 10, "ten thousand bytes each"
        for at in range(0, 400, 20):
            tail.put("endless", at, *range(20))
        with pytest.raises(TokensMissing, match="missing"):
            await read(streams, "endless")
        assert streams.stream("endless").size < 40_000

    run(work)


def test_an_answer_that_never_ends_is_waited_for_with_a_limit() -> None:
    async def work(tail: Tail, streams: ChatStreams) -> None:
        tail.put("r", 0, 1, 2)
        tokens = []
        with pytest.raises(TokensMissing, match=r"nothing of r came for .* behind position 2"):
            async for token in streams.tokens("r", silence_s=0.3):
                tokens.append(token.token)
                tail.put("r", 0)  # a record without a new token is no sign of life
        assert tokens == [1, 2]

    run(work)


def test_closing_ends_those_who_wait() -> None:
    async def work(tail: Tail, streams: ChatStreams) -> None:
        waiting = asyncio.create_task(read(streams, "r"))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(streams.close)
        with pytest.raises(TokensMissing, match="closed before r ended"):
            await waiting

    run(work)


def test_while_the_registry_is_silent_no_more_records_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(tail: Tail, streams: ChatStreams) -> None:
        whole, sizes = streams._readable.of, []

        def silent(polled: Polled) -> Any:
            sizes.append(len(polled))
            raise RetryLater("the registry does not answer")

        monkeypatch.setattr(streams._readable, "of", silent)
        for at in range(5):
            tail.put("r", at, at)
        tail.put("r", 5, last=True)
        while len(sizes) < 3:
            await asyncio.sleep(0.05)
        monkeypatch.setattr(streams._readable, "of", whole)
        assert await read(streams, "r") == [0, 1, 2, 3, 4]
        assert max(sizes) == 1

    run(work)
