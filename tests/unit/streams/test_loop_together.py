"""Parts of the loop that hold work back, go back or heal, and what they do to each other."""

from __future__ import annotations

from schemas.errors import DependencyUnavailable
from schemas.topic_kinds import Order
from streams.loop.limits import Delivery
from streams.rows import Rows
from tests.support.echo import RESULTS, Echo, EchoGroup, settle, statuses

TOPIC = "echo-requests-v1"


def test_a_batch_that_waits_in_place_keeps_the_count_of_its_first_record() -> None:
    """All of it lacks the same; each try counts for the record that is first, and in the end it is given up."""
    world = EchoGroup(Order.STRICT, partitions=1)
    echo = Echo()

    def away(rows: Rows) -> None:
        raise DependencyUnavailable("the store does not answer")

    echo.on_batch = away
    loop = world.loop(echo)
    world.send(b"a", b"b", b"c")
    settle(loop, passes=600)
    assert statuses(world) == {"failed": 3}


def test_changes_of_the_group_are_no_failures_of_transactions() -> None:
    world = EchoGroup(partitions=2)
    loop = world.loop(Echo())
    settle(loop)
    for _ in range(8):
        loop.assignment.must_rewind = True
        loop.run_once()
    assert not loop.held_back and loop.metrics.total("aborts") == 0
    world.send(b"v")
    settle(loop)
    assert statuses(world) == {"ok": 1}


def test_a_step_that_answers_one_of_a_batch_works_in_strict_order_too() -> None:
    world = EchoGroup(Order.STRICT, partitions=1)
    loop = world.loop(Echo(), max_failures_in_a_row=2)
    world.send(*[b"poison"] * 5, b"v")
    settle(loop, passes=100)
    assert statuses(world) == {"failed": 5, "ok": 1} and not loop.held_back


def test_work_that_is_held_back_does_not_stand_still() -> None:
    """A trial may take long, and in strict order nothing waits in memory after it."""
    world = EchoGroup(Order.STRICT, partitions=1)
    echo = Echo()
    broken = True

    def slow(rows: Rows) -> None:
        world.clock.sleep(0.8)
        if broken:
            raise ValueError("every record fails")

    echo.on_batch = slow
    loop = world.loop(echo, max_failures_in_a_row=2)
    world.send(*[b"v"] * 8)
    settle(loop, passes=1_000)
    assert loop.metrics.total("healings") == 0
    broken = False
    settle(loop, passes=400)
    assert statuses(world) == {"failed": 2, "ok": 6}


def test_a_member_with_partitions_of_retries_alone_goes_on_where_only_some_of_them_stop() -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo())
    settle(loop)
    first, second = world.consumption.retry_topics()
    loop.source._held = {(first, 0), (second, 0)}  # type: ignore[attr-defined]
    loop.recovery._stop({(first, 0)}, "its dead letter is not taken")
    assert loop.assignment.pauses.stopped.keys() == {(first, 0)}


def test_at_least_once_finds_the_record_that_cannot_be_written_too() -> None:
    """Each record alone, and committed alone: else it is looked for again and again, and the partition stands still."""
    world = EchoGroup(partitions=1)
    world.broker.limits[RESULTS] = 1_000
    loop = world.loop(Echo(), delivery=Delivery.AT_LEAST_ONCE)
    world.send(*[b"v"] * 5, b"v" * 3_000, *[b"v"] * 5)
    settle(loop, passes=100)
    assert {origin for status, origin, _ in world.results() if status == "ok"} == {f"{TOPIC}/0/{n}" for n in range(11) if n != 5}
    assert statuses(world)["failed"] == 1 and len(world.dead()) == 1


def test_partitions_that_wait_while_a_record_is_looked_for_do_not_stand_still() -> None:
    world = EchoGroup(partitions=2)
    world.broker.limits[RESULTS] = 1_000
    echo = Echo()
    loop = world.loop(echo)
    world.send(*[b"v"] * 300, b"v" * 3_000, partition=0)
    settle(loop, passes=1)
    echo.on_batch = lambda rows: world.clock.sleep(1.0)
    loop.recovery._alone[TOPIC, 0] = 301
    world.send(*[b"v"] * 5, partition=1)
    settle(loop, passes=700)
    assert loop.metrics.total("healings") == 0
    assert statuses(world) == {"ok": 305, "failed": 1}


def test_what_comes_while_work_is_held_back_is_tried_as_well() -> None:
    """Not only what was in memory when it began, which may all be of one sender."""
    world = EchoGroup(partitions=2)
    loop = world.loop(Echo(), max_failures_in_a_row=2)
    world.send(*[b"poison"] * 9, partition=0)
    settle(loop, passes=50)
    assert loop.held_back
    world.send(b"v", partition=1)
    settle(loop, passes=400)
    assert statuses(world) == {"failed": 9, "ok": 1} and not loop.held_back


def test_one_record_at_a_time_does_not_keep_a_held_step_from_being_tried() -> None:
    world = EchoGroup(partitions=2)
    loop = world.loop(Echo(), max_failures_in_a_row=2)
    world.send(*[b"poison"] * 9, partition=0)
    world.send(b"v", partition=1)
    loop.source.poll(1, 0.0)
    loop.recovery._alone[TOPIC, 0] = 9
    loop.assignment.rewind()
    settle(loop, passes=600)
    assert statuses(world) == {"failed": 9, "ok": 1} and not loop.held_back
