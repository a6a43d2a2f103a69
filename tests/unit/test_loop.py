"""The loop on the in-memory broker: each record ends once, whatever happens to it or to the group."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.errors import DeadLetterUnwritable, TooManyFailures
from schemas.topic import Order
from streams import headers as h
from streams.loop import Delivery, Loop
from streams.rows import Rows
from tests.echo import Echo, World, settle

BOTH = pytest.mark.parametrize("delivery", list(Delivery))


@BOTH
def test_every_request_is_answered_once(delivery: Delivery) -> None:
    world = World()
    loop = world.loop(Echo(), delivery=delivery)
    world.send(*[f"v{i}".encode() for i in range(50)])
    settle(loop)
    assert sorted(value for _, _, value in world.results() if value) == sorted(f"v{i}".encode() for i in range(50))
    assert len({origin for _, origin, _ in world.results()}) == 50


@BOTH
def test_a_poison_record_is_alone_in_the_dead_letters_and_its_neighbours_are_answered(delivery: Delivery) -> None:
    world = World(partitions=1)
    loop = world.loop(Echo(), delivery=delivery)
    world.send(b"a", b"b", b"poison", b"c", b"d", b"e", b"f")
    settle(loop)
    assert [entry.value for entry in world.dead()] == [b"poison"]
    found = dict(world.dead()[0].headers)
    assert found[h.ERROR_CODE] == b"poison" and b"ValueError" in found[h.ERROR_MESSAGE]
    assert found[h.ORIGIN_OFFSET] == b"2" and found[h.KIP_1034 + "offset"] == b"2"
    assert Counter(status for status, _, _ in world.results()) == {"ok": 6, "failed": 1}


def test_a_retry_waits_in_its_topic_and_names_its_origin() -> None:
    world = World(partitions=1)
    echo = Echo()
    loop = world.loop(echo)
    world.send(b"a", b"later", b"b")
    settle(loop, passes=3)
    assert [value for _, _, value in world.results()] == [b"a", b"b"]
    echo.mended = True
    settle(loop, passes=30)
    assert world.results()[-1] == ("ok", "echo-requests-v1/0/1", b"later")
    assert world.dead() == []


def test_after_the_last_try_a_record_is_a_dead_letter_with_an_answer() -> None:
    world = World(partitions=1)
    loop = world.loop(Echo())
    world.send(b"later")
    settle(loop, passes=200)
    assert [entry.value for entry in world.dead()] == [b"later"]
    assert dict(world.dead()[0].headers)[h.ATTEMPT] == b"2"
    assert [status for status, _, _ in world.results()] == ["failed"]


def test_a_retry_past_the_deadline_is_expired_at_once() -> None:
    world = World(partitions=1)
    loop = world.loop(Echo())
    world.send(b"later", headers=[(h.DEADLINE_MS, str(world.clock.now_ms() + 500).encode())])
    settle(loop, passes=3)
    assert [status for status, _, _ in world.results()] == ["expired"]


def test_strict_order_waits_for_the_record_in_place() -> None:
    world = World(Order.STRICT, partitions=1)
    echo = Echo()
    loop = world.loop(echo)
    world.send(b"a", b"later", b"b")
    settle(loop, passes=3)
    assert [value for _, _, value in world.results()] == [b"a"]
    echo.mended = True
    settle(loop, passes=40)
    assert [value for _, _, value in world.results()] == [b"a", b"later", b"b"]


def test_expired_work_is_answered_and_not_computed() -> None:
    world = World(partitions=1)
    echo = Echo()
    loop = world.loop(echo)
    world.send(b"late", headers=[(h.DEADLINE_MS, str(world.clock.now_ms() - 1).encode())])
    settle(loop)
    assert [status for status, _, _ in world.results()] == ["expired"]
    assert echo.batches == []


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([(h.DEADLINE_MS, b"soon")], b"invalid"),
        ([(h.PRIORITY, b"\xff")], b"invalid"),
        ([(h.CE_ID, b"\xff\xfe")], b"invalid"),
        ([(f"h{i}", b"x") for i in range(10_000)], b"too-large"),
        ([("big", b"x" * 40_000)], b"too-large"),
    ],
)
def test_bad_headers_end_as_a_dead_letter_with_the_cause(headers: list[tuple[str, bytes]], code: bytes) -> None:
    world = World(partitions=1)
    loop = world.loop(Echo())
    world.send(b"bad", headers=headers)
    world.send(b"good")
    settle(loop)
    (dead,) = world.dead()
    assert dict(dead.headers)[h.ERROR_CODE] == code
    assert sum(len(k) + len(v) for k, v in dead.headers) < 64 * 1024
    assert Counter(status for status, _, _ in world.results()) == {"ok": 1, "failed": 1}


def test_a_record_over_the_limit_is_a_dead_letter_whole() -> None:
    world = World(partitions=1)
    loop = world.loop(Echo())
    world.send(b"x" * 10_001, b"ok")
    settle(loop)
    assert [len(entry.value or b"") for entry in world.dead()] == [10_001]


def test_higher_priority_goes_first() -> None:
    world = World(partitions=1)
    loop = world.loop(Echo())
    world.send(*[b"low"] * 8)
    world.send(b"high", headers=[(h.PRIORITY, b"9")])
    order: list[bytes | None] = []
    loop.step._process.on_batch = lambda rows: order.extend(rows.values)  # type: ignore[attr-defined]
    settle(loop)
    assert order[0] == b"high"


def test_a_rebalance_in_mid_batch_doubles_and_loses_nothing() -> None:
    world = World()
    echo = Echo()
    first = world.loop(echo, slot=0)
    world.send(*[f"v{i}".encode() for i in range(40)])
    first.run_once()
    joined: list[Loop] = []

    def join(rows: Rows) -> None:
        if not joined:
            joined.append(world.loop(Echo(), slot=1))

    world.send(*[f"w{i}".encode() for i in range(40)])
    echo.on_batch = join
    first.run_once()
    settle(first, *joined, passes=20)
    origins = [origin for _, origin, _ in world.results()]
    assert len(origins) == len(set(origins)) == 80


def test_a_member_that_was_expelled_commits_nothing() -> None:
    world = World()
    echo = Echo()
    frozen = world.loop(echo, slot=0)
    world.send(*[f"v{i}".encode() for i in range(20)])
    other = world.loop(Echo(), slot=1)
    settle(frozen, other, passes=3)
    world.send(*[f"w{i}".encode() for i in range(20)])

    def freeze(rows: Rows) -> None:
        if echo.on_batch is freeze:
            echo.on_batch = lambda rows: None
            world.broker.expel("echo", frozen.source.name)  # type: ignore[attr-defined]
            settle(other, passes=5)

    echo.on_batch = freeze
    settle(frozen, other, passes=20)
    origins = [origin for _, origin, _ in world.results()]
    assert len(origins) == len(set(origins)) == 40


def test_a_dead_letter_topic_that_takes_nothing_stops_its_partition_and_then_the_process() -> None:
    world = World(partitions=2)
    loop = world.loop(Echo())
    world.broker.refusing.add(world.consumption.dead_letter_topic)
    world.send(b"poison", partition=0)
    settle(loop, passes=5)
    world.send(b"good", partition=1)
    settle(loop, passes=5)
    assert [value for _, _, value in world.results()] == [b"good"]
    world.send(b"poison", partition=1)
    with pytest.raises(DeadLetterUnwritable):
        settle(loop, passes=5)


def test_a_run_of_failures_stops_the_process_before_it_drains_the_topic() -> None:
    world = World(partitions=1)
    loop = world.loop(Echo(), max_failures_in_a_row=10)
    world.send(*[b"poison"] * 50)
    with pytest.raises(TooManyFailures):
        settle(loop)
    assert len(world.dead()) <= 10


def test_what_is_in_memory_stays_under_the_look_ahead() -> None:
    world = World(partitions=2)
    loop = world.loop(Echo(), look_ahead_records=16, poll_records=4)
    world.send(*[b"v"] * 200)
    highest = 0
    for _ in range(200):
        loop.run_once()
        highest = max(highest, loop.assignment.in_flight_records)
    assert len(world.results()) == 200
    assert highest <= 20


def test_a_claim_is_written_at_assignment_and_cleared_by_progress() -> None:
    world = World(partitions=1)
    loop = world.loop(Echo())
    loop.run_once()
    place = ("echo-requests-v1", 0)
    assert world.broker.groups["echo"].committed[place].note == "claim=1"
    world.send(b"v")
    settle(loop)
    assert world.broker.groups["echo"].committed[place].note == ""


def test_a_clean_leave_clears_the_claim() -> None:
    world = World(partitions=1)
    loop = world.loop(Echo())
    loop.run_once()
    loop.source.close()
    assert world.broker.groups["echo"].committed["echo-requests-v1", 0].note == ""
