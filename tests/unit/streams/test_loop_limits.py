"""Limits of the loop that hold: of its drain, of what waits in memory, of an open transaction, of a retry in place, of a queue."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from schemas.errors import (
    BrokerUnavailable,
    TransactionAborted,
)
from schemas.topic_kinds import Order
from streams.broker import Commit
from streams.loop.limits import Delivery
from streams.loop.loop import Loop
from streams.memory.endpoints import MemorySink
from streams.rows import OutRecords, Place, Polled
from tests.support.echo import Echo, EchoGroup, once, settle, statuses

TOPIC = "echo-requests-v1"


def test_the_drain_keeps_its_limit_and_gives_back_what_it_did_not_begin() -> None:
    world = EchoGroup(partitions=1)
    echo = Echo()
    loop = world.loop(echo, look_ahead_records=200, poll_records=200)
    world.send(*[b"v"] * 200)
    loop._admit(polled_of(loop))
    echo.on_batch = lambda rows: world.clock.sleep(0.9)
    began_s = world.clock.monotonic_s()
    loop._drain()
    assert world.clock.monotonic_s() - began_s < loop.limits.drain_limit_s + 2
    assert 0 < len(world.results()) < 200
    loop.source.close()
    settle(world.loop(Echo(), slot=1), passes=60)
    assert statuses(world) == {"ok": 200} and once(world)


def test_a_request_waits_for_company_up_to_the_limit_of_a_batch() -> None:
    world, echo = EchoGroup(partitions=1), Echo()
    loop = world.loop(echo, max_wait_ms=5_000)
    settle(loop)
    began_s = world.clock.monotonic_s()
    world.send(b"v")
    while not world.results():
        loop.run_once()
    assert 5 <= world.clock.monotonic_s() - began_s < 6


def test_a_stop_does_not_wait_for_company() -> None:
    world, echo = EchoGroup(partitions=1), Echo()
    loop = world.loop(echo, max_wait_ms=60_000)
    world.send(b"v")
    passes = iter([False] * 5)
    began_s = world.clock.monotonic_s()
    loop.run(lambda: next(passes, True))
    assert statuses(world) == {"ok": 1}
    assert world.clock.monotonic_s() - began_s < 30


def polled_of(loop: Loop) -> Polled:
    while not len(polled := loop._poll()):
        pass
    return polled


def test_what_waits_is_bounded_by_keys_and_headers_too() -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo(), look_ahead_bytes=200_000, poll_records=4)
    for _ in range(40):
        world.send(b"v", headers=[("big", b"x" * 30_000)])
    highest = 0
    loop.step.busy = lambda: True  # type: ignore[method-assign]  # nothing is worked on
    for _ in range(30):
        loop.run_once()
        highest = max(highest, loop.assignment.in_flight_records)
    assert highest <= 12


def test_no_transaction_is_open_while_a_batch_runs_that_may_take_long() -> None:
    world = EchoGroup(partitions=1)
    echo = Echo()
    loop = world.loop(echo, commit_interval_ms=10_000)
    world.send(*[b"v"] * 24)
    opened: list[bool] = []
    loop.step.takes_long = lambda batch: True  # type: ignore[method-assign]
    echo.on_batch = lambda rows: opened.append(loop.outbox.opened is not None)
    settle(loop, passes=5)
    assert len(opened) >= 3 and not any(opened)


class Silent(EchoGroup):
    """Its broker does not tell what is committed until a time."""

    def until(self, loop: Loop, answers_s: float) -> None:
        committed = loop.source.committed

        def asked(places: Iterable[Place]) -> dict[Place, Commit]:
            if self.clock.monotonic_s() < answers_s:
                raise BrokerUnavailable("no answer")
            return committed(places)

        loop.source.committed = asked  # type: ignore[method-assign]


@pytest.mark.parametrize("silent_s", [60.0, 600.0])
def test_a_retry_in_place_waits_for_the_broker_within_the_outage_limit(silent_s: float) -> None:
    world = Silent(Order.STRICT, partitions=1)
    echo = Echo()
    loop = world.loop(echo, outage_limit_s=120.0)
    settle(loop, passes=2)
    failures = [True]
    echo.later_fails = lambda: bool(failures) and failures.pop()
    world.until(loop, world.clock.monotonic_s() + silent_s)
    world.send(b"later")
    if silent_s > 120:
        with pytest.raises(BrokerUnavailable, match="no way back"):
            settle(loop, passes=30)
    else:
        settle(loop, passes=60)
        assert statuses(world) == {"ok": 1}


class FullQueue(MemorySink):
    """full: the queue takes no more than one write."""

    full = True

    def produce(self, out: OutRecords) -> None:
        if self.full and self.queue:
            raise TransactionAborted("produce: the queue takes no more")
        super().produce(out)


def test_at_least_once_nothing_that_was_queued_before_an_abort_is_sent_after_it() -> None:
    world = EchoGroup(partitions=1)
    world.broker.queues = lambda: True
    sink = FullQueue(world.broker, "echo", None)
    loop = world.loop(Echo(), delivery=Delivery.AT_LEAST_ONCE, sink=lambda own: sink)
    world.send(*[b"v"] * 20)
    while not loop.metrics.total("aborts"):
        loop.run_once()
    assert sink.queue == [], "its rows are read again; sent later, its failure would be blamed on another row"
    sink.full = False
    settle(loop, passes=30)
    assert len({origin for _, origin, _ in world.results()}) == 20
