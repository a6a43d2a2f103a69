"""The monitor beside hostile or broken records, processes and clients: nothing of theirs hides what others say."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from infra import metrics_page
from infra.monitor import letters
from infra.monitor.plain import as_json
from infra.monitor.reading.tails import Listener, Streams
from infra.monitor.turns import Reads, Shared, TooMany
from infra.monitor.watching import drift_watches
from infra.monitor.watching.asking import Asking
from infra.monitor.watching.story import MOST_NAMES, TOPICS, Story
from infra.records import decoded_one
from infra.settings import StackSettings
from schemas import avro
from schemas.codec import Encoder
from schemas.errors import RetryLater
from schemas.generated import AuditEntry, DriftState, WorkerStatus
from schemas.topics import AUDIT, DRIFT_STATE, WORKER_STATUS
from streams import headers as h
from streams.clock import SystemClock
from streams.metrics import CATALOGUE as CATALOGUE_OF_METRICS
from streams.rows import Polled
from streams.schema_registry import MemoryRegistry


def _told(story: Story, ids: MemoryRegistry, topic: Any, record: Any, at_ms: int = 1) -> None:
    ids.register(topic.subject, avro.schema(record.RECORD))
    value = Encoder(record.RECORD, topic.subject, ids).encode_one(record)
    story.take(Polled([(topic.name, 0)], [0], [b""], [value], [None], [at_ms]), ids)


# --- what anybody may write to a topic ------------------------------------------------------------------------------------


def _status(**over: Any) -> WorkerStatus:
    made = WorkerStatus(
        process="w-0",
        kind="worker",
        task="moderation",
        state="running",
        at_ms=1,
        pid=1,
        metrics_address="",
        records_in=0,
        records_out=0,
        dead_letters=0,
        retries=0,
        expired=0,
        batches=0,
        busy_share=0.5,
        in_flight=0,
    )
    return replace(made, **over)


def test_json_of_whatever_was_read_is_taken_by_every_parser() -> None:
    odd = {"a": float("nan"), "b": [float("inf"), {"c": -float("inf")}], "d": "\ud800", "e": 2**70, "f": 1.5}
    assert json.loads(as_json(odd), parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, {"c": None}],
        "d": "?",
        "e": 2**70,
        "f": 1.5,
    }


def test_numbers_that_are_none_in_a_status_are_unknown() -> None:
    story, ids = Story(), MemoryRegistry()
    for busy in (float("nan"), float("inf")):
        _told(story, ids, WORKER_STATUS, _status(busy_share=busy, at_ms=1_000))
        assert story.running(1_500)["w-0"]["busy_share"] is None
    _told(story, ids, WORKER_STATUS, _status(at_ms=2**62))  # a time to come is no word of now
    assert story.running(1_500) == {}


def test_made_up_names_take_no_memory() -> None:
    story, ids = Story(), MemoryRegistry()
    for number in range(MOST_NAMES + 50):
        _told(story, ids, WORKER_STATUS, _status(process=f"w-{number}"))
    assert len(story.statuses()) == MOST_NAMES
    assert f"w-{MOST_NAMES + 49}" in story.statuses()


def test_a_record_that_is_not_what_its_topic_holds_is_passed_over_and_those_behind_it_are_not() -> None:
    """Null, junk, another record's schema, an odd position: on each topic, before a good audit line."""
    story, ids = Story(), MemoryRegistry()
    other = Encoder("content", "content-v1", _registered(ids, "content-v1", "content")).encode(
        {"content_id": ["c"], "text": ["t"]}, 1
    )[0]
    line = Encoder.of(AUDIT, _registered(ids, AUDIT.subject, "audit-entry"))
    entry = AuditEntry(
        audit_id="a", actor="ada", role="operator", action="redrive", subject="x", words="1", outcome="done", at_ms=5
    )
    odd = line.encode_one(replace(entry, audit_id="b", positions=("no position", "a/b/c", "t/²/1")))
    good = line.encode_one(replace(entry, positions=("content-v1-moderation-dlq/2/40",)))
    bad: list[bytes | None] = [None, b"", b"junk", b"\x00\x00\x00\x00\x63x", other, other[:7]]
    rows = [(topic, value) for topic in TOPICS for value in bad] + [(AUDIT.name, odd), (AUDIT.name, good)]
    n = len(rows)
    story.take(Polled([(t, 0) for t, _ in rows], [0] * n, [b""] * n, [v for _, v in rows], [None] * n, [1] * n), ids)
    assert story.not_decoded == len(TOPICS) * len(bad)
    assert story.dead_letters().redriven == {("content-v1-moderation-dlq", 2, 40): "by ada"}


def test_a_registry_that_does_not_answer_is_no_reason_to_pass_a_record_over() -> None:
    class Silent(MemoryRegistry):
        def schema_of(self, schema_id: int) -> dict[str, Any]:
            raise RetryLater("no answer")

    with pytest.raises(RetryLater):
        Story().take(Polled([(AUDIT.name, 0)], [0], [b""], [b"\x00\x00\x00\x00\x01x"], [None], [1]), Silent())


def test_nobody_who_reads_the_story_waits_for_the_registry() -> None:
    asked, going = threading.Event(), threading.Event()

    class Slow(MemoryRegistry):
        def schema_of(self, schema_id: int) -> dict[str, Any]:
            asked.set()
            going.wait(60)
            return super().schema_of(schema_id)

    story, ids = Story(), Slow()
    thread = threading.Thread(target=lambda: _told(story, ids, WORKER_STATUS, _status(at_ms=1_000)), daemon=True)
    thread.start()
    assert asked.wait(60)
    seen: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: seen.append(story.statuses()), daemon=True)
    reader.start()
    reader.join(5)
    going.set()
    thread.join(60)
    assert seen == [{}]
    assert "w-0" in story.running(1_500)


def _registered(ids: MemoryRegistry, subject: str, record: str) -> MemoryRegistry:
    ids.register(subject, avro.schema(record))
    return ids


def test_states_of_drift_that_fit_nothing_are_not_shown_and_hide_no_other() -> None:
    story, ids = Story(), MemoryRegistry()
    good = DriftState(
        detector="drift",
        model="m",
        version="1",
        signals=("length",),
        baseline=np.ones(3, "<f4").tobytes(),
        window=np.ones(3, "<f4").tobytes(),
        windows=1,
        streaks={},
        from_ms=1,
        seen_ms=2,
        first_ms=1,
    )
    _told(story, ids, DRIFT_STATE, replace(good, model="odd", baseline=b"abc"))
    _told(story, ids, DRIFT_STATE, replace(good, model="none", signals=(), baseline=b"", window=b""))
    _told(story, ids, DRIFT_STATE, good)
    assert "m" in [one.model for one in drift_watches.watched(story, [])]


def test_headers_without_a_value_are_empty() -> None:
    headers: Any = [[(h.ERROR_CODE, None), ("trace", None)]]
    polled = Polled([("content-v1-moderation-dlq", 0)], [0], [None], [None], headers, [1])
    assert letters.letter(polled, 0).code == ""
    assert decoded_one(polled, 0, MemoryRegistry())["headers"] == {h.ERROR_CODE: "", "trace": ""}


# --- pages of figures: where they may lie, and how long they may take ------------------------------------------------------


@contextmanager
def _server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A port of this machine that answers one connection."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)

        def serve() -> None:
            while not ended.is_set():
                with suppress(OSError):
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(4_096)
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        thread.join(30)


HEAD = b"HTTP/1.0 200 OK\r\n\r\n"
FIGURE = f"{CATALOGUE_OF_METRICS['records_in'].exported} 5\n".encode()


def test_a_page_is_fetched_whole() -> None:
    with _server(lambda connection: connection.sendall(HEAD + FIGURE + FIGURE.replace(b"5", b"NaN"))) as address:
        assert metrics_page.page(address, 10.0) == metrics_page.Page({"records_in": 5.0})


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254:80",
        "10.0.0.1:80",
        "evil.example:80",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:99999",
        "127.0.0.1:{port}/x?",
        "x@127.0.0.1:{port}",
        "127.0.0.1:{port}#",
        "127.0.0.1:{port}\r\nX: y",
        "127.0.0.2:{port}",
        "0.0.0.0:{port}",
        "",
        "²:1",
    ],
)
def test_an_address_that_is_no_port_of_this_machine_is_not_asked(address: str) -> None:
    asked: list[int] = []
    with _server(lambda connection: asked.append(1)) as own:
        assert metrics_page.page(address.replace("{port}", own.rpartition(":")[2]), 1.0) is None
        assert asked == []


@pytest.mark.parametrize("head", [b"HTTP/1.1 302 Found\r\nLocation: /other\r\n\r\n", b"HTTP/1.0 500 No\r\n\r\n", b"junk", b""])
def test_no_answer_but_a_page_is_read_or_followed(head: bytes) -> None:
    with _server(lambda connection: connection.sendall(head + FIGURE)) as address:
        assert metrics_page.page(address, 10.0) is None


def _drip(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def _flood(connection: socket.socket) -> None:
    connection.sendall(HEAD)
    while True:
        connection.sendall(FIGURE * 1_000)


@pytest.mark.parametrize("answer", [_drip, _flood, lambda connection: time.sleep(1)], ids=["drip", "flood", "silence"])
def test_a_page_that_does_not_end_is_left(answer: Callable[[socket.socket], None]) -> None:
    with _server(answer) as address:
        assert metrics_page.page(address, 0.5) is None  # it returns at all


def test_no_address_holds_up_the_look_at_the_others() -> None:
    asking = Asking(StackSettings(home="/nowhere"))
    with _server(lambda connection: connection.sendall(HEAD + FIGURE)) as good, ExitStack() as slow:
        bad = [slow.enter_context(_server(_drip)) for _ in range(5)]
        found = asking.pages({good, *bad})
        assert found == {good: metrics_page.Page({"records_in": 5.0})}
    asking.close()


# --- what costs a process ---------------------------------------------------------------------------------------------------


def test_many_who_ask_the_same_get_one_answer_and_many_questions_are_refused() -> None:
    made: list[int] = []
    going = threading.Event()

    def slow(number: int) -> int:
        made.append(number)
        going.wait(60)
        return number

    async def told() -> None:
        shared = Shared(SystemClock(), at_once=2, most_waiting=2)
        asked = [asyncio.create_task(shared.ask(n % 4, partial(slow, n % 4))) for n in range(40)]
        while len(made) < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(TooMany):
            await shared.ask("another", lambda: slow(9))
        asked[0].cancel()  # who leaves takes nothing from the others
        assert len(made) == 2
        going.set()
        answers = await asyncio.gather(*asked[1:])
        assert answers == [n % 4 for n in range(1, 40)]
        assert await shared.ask(1, lambda: slow(7)) == 1  # kept for a while
        assert sorted(made) == [0, 1, 2, 3]
        with pytest.raises(ValueError, match="broken"):
            await shared.ask("broken", lambda: (_ for _ in ()).throw(ValueError("broken")))
        assert await shared.ask("broken", lambda: 5) == 5  # a failure is not kept
        shared.close()

    asyncio.run(told())


def test_readers_of_messages_are_so_many_and_no_more() -> None:
    reads = Reads(2)
    with reads.turn(), reads.turn(), pytest.raises(TooMany), reads.turn():
        pass
    with reads.turn():
        pass


def test_one_client_keeps_nobody_out() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(30)

    async def told() -> None:
        streams, ends = Streams(3), list[str]()

        async def listen(client: str, name: str) -> None:
            listener = Listener()
            streams.admit(client, listener)
            try:
                async for _ in streams.until_gone(client, listener, endless()):
                    pass
            finally:
                ends.append(name)

        tasks = [asyncio.create_task(listen("greedy", f"greedy {n}")) for n in range(3)]
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(listen("other", "other")))
        await asyncio.sleep(0.01)
        assert (ends, len(streams)) == (["greedy 0"], 3)
        tasks.append(asyncio.create_task(listen("other", "other 2")))
        await asyncio.sleep(0.01)
        assert (ends, len(streams)) == (["greedy 0", "greedy 1"], 3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(streams) == 0

    asyncio.run(told())
