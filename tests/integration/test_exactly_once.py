"""The loop on real Kafka, through rebalances; and the proof that the ledger would see a broken one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from schemas.errors import StandsStill
from streams.broker import Commit
from streams.kafka.config import GroupProtocol
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource
from streams.loop.limits import Delivery
from streams.loop.loop import Loop
from streams.loop.release import Ended
from streams.rows import Place, Rows
from streams.sinks_in_turn import SinksInTurn
from tests.conftest import Servers
from tests.support.echo import Echo
from tests.support.faults import Fault, FaultySink
from tests.support.real import RealEchoGroup
from tests.support.waiting import until

pytestmark = pytest.mark.real


@contextmanager
def running(*loops: Loop) -> Iterator[None]:
    """Each loop on a thread of its own until the block ends; what a thread raised is raised here."""
    stop, raised = threading.Event(), []

    def run(loop: Loop) -> None:
        try:
            loop.run(stop.is_set)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(loop,), daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(180)
        assert not any(thread.is_alive() for thread in threads), "a loop did not end"
    if raised:
        raise raised[0]


def answered(world: RealEchoGroup, n: int) -> Callable[[], bool]:
    return lambda: len({end.origin for end in world.ends()}) >= n


@pytest.mark.parametrize("protocol", GroupProtocol)
def test_a_third_worker_joins_and_one_leaves_in_mid_batch(servers: Servers, protocol: GroupProtocol) -> None:
    world = RealEchoGroup(replace(servers.address, protocol=protocol, session_timeout_ms=6_000))
    slow = Echo()
    slow.on_batch = lambda rows: time.sleep(0.05)
    with running(*(world.loop(slow, slot=slot) for slot in range(2))):
        world.send(*[f"v{i}".encode() for i in range(400)])
        until(answered(world, 50))
        with running(world.loop(slow, slot=2)):  # a member from here on: a loop that does not run yet would hold up the group
            world.send(*[f"w{i}".encode() for i in range(400)])
            until(answered(world, 500), 60)
        until(answered(world, 800), 60)
    assert world.problems() == []


@pytest.mark.parametrize("delivery", list(Delivery))
def test_poison_invalid_and_retried_records_all_end_once(servers: Servers, delivery: Delivery) -> None:
    world = RealEchoGroup(servers.address)
    values = [b"poison" if i % 17 == 0 else b"invalid" if i % 13 == 0 else b"later" if i % 11 == 0 else b"v" for i in range(200)]
    with running(world.loop(Echo(), delivery=delivery)):
        world.send(*values)
        until(answered(world, 200))
    assert world.problems(may_repeat=delivery is Delivery.AT_LEAST_ONCE) == []


def test_a_worker_that_stood_still_past_its_poll_interval_doubles_nothing(servers: Servers) -> None:
    assert _stand_still(servers, lambda loop: None) == []


@pytest.mark.parametrize("fault", [Fault.UNSEEN, Fault.LOST])
@pytest.mark.parametrize("protocol", GroupProtocol)
def test_a_commit_whose_answer_never_came_doubles_nothing_when_the_worker_leaves(
    servers: Servers, protocol: GroupProtocol, fault: Fault
) -> None:
    world = RealEchoGroup(replace(servers.address, protocol=protocol, session_timeout_ms=6_000))
    faults = iter([fault])
    loop = world.loop(Echo(), sink=lambda sink: FaultySink(sink, lambda: next(faults, Fault.NONE)))
    world.send(*[f"v{i}".encode() for i in range(40)])
    with running(loop):
        until(answered(world, 40))
        until(lambda: loop.metrics.total("aborts") >= 1)
    with running(world.loop(Echo(), slot=1)):
        world.send(b"last")
        until(answered(world, 41))
    assert world.problems() == []


def test_a_transaction_that_the_broker_ended_at_its_time_out_is_no_fencing(servers: Servers) -> None:
    """The broker looks for such transactions every ten seconds."""
    world = RealEchoGroup(replace(servers.address, transaction_timeout_ms=3_000), partitions=1)
    echo = Echo()
    loop = world.loop(echo, commit_interval_ms=60_000)
    frozen: list[float] = []

    def freeze(rows: Rows) -> None:
        if loop.outbox.opened is not None and not frozen:
            frozen.append(time.perf_counter())
            time.sleep(14.0)

    echo.on_batch = freeze
    world.send(*[f"v{i}".encode() for i in range(40)])
    with running(loop):
        until(lambda: bool(frozen))
        until(answered(world, 40), 60)
    assert loop.metrics.total("aborts") >= 1
    assert world.problems() == []


# --- the ledger sees what is broken ---------------------------------------------------------------------------------


def _dropping(loop: Loop) -> None:
    hold: Callable[[Ended], None] = loop.outbox.hold

    def broken(ended: Ended) -> None:
        dropped = any(b"5" in (value or b"") for value in ended.rows.values)  # whichever batch they came into
        hold(Ended(ended.rows, [] if dropped else ended.records))

    loop.outbox.hold = broken  # type: ignore[method-assign]


def _duplicating(loop: Loop) -> None:
    hold: Callable[[Ended], None] = loop.outbox.hold
    loop.outbox.hold = lambda ended: hold(Ended(ended.rows, [*ended.records, *ended.records]))  # type: ignore[method-assign]


@pytest.mark.parametrize(("break_it", "word"), [(_dropping, "missing"), (_duplicating, "doubled")])
def test_the_ledger_catches_a_worker_that(servers: Servers, break_it: Callable[[Loop], None], word: str) -> None:
    world = RealEchoGroup(servers.address)
    loop = world.loop(Echo())
    break_it(loop)
    with running(loop):
        world.send(*[f"v{i}".encode() for i in range(40)])
        until(lambda: loop.metrics.total("records_in") >= 40)
        time.sleep(0.5)
    assert any(problem.startswith(word) for problem in world.problems())


def test_the_ledger_catches_a_worker_that_commits_early(servers: Servers) -> None:
    """Offsets first, results later: what is in flight when it dies is lost."""
    world = RealEchoGroup(servers.address, partitions=1)

    class Died(BaseException):
        pass

    def die(rows: Rows) -> None:
        loop.source.commit({rows.places[0]: Commit(rows.offsets[-1] + 1)})
        raise Died

    echo = Echo()
    loop = world.loop(echo)
    world.send(*[f"v{i}".encode() for i in range(8)])
    echo.on_batch = die
    with pytest.raises(Died):
        _run(loop, passes=100)
    loop._dropped()
    loop.assignment._claimed.clear()  # it died: nobody clears its claims
    loop.source.close()
    with running(world.loop(Echo(), slot=1)):
        time.sleep(2)
    assert any(problem.startswith("missing") for problem in world.problems())


def _run(loop: Loop, passes: int) -> None:
    for _ in range(passes):
        loop.run_once()


def _membership_at_commit_time(loop: Loop) -> None:
    """Works on as if nothing was revoked, and asks for the group's metadata only when it commits: after it has joined again."""
    source, assignment = loop.source, loop.assignment
    assert isinstance(source, KafkaSource)
    assignment.revoked = lambda places, *, lost: None  # type: ignore[method-assign]
    submit, commit, assigned = loop.step.submit, loop.sink.commit, assignment.assigned
    assignments = before_the_first_batch = 0

    def joins(places: Sequence[Place]) -> None:
        nonlocal assignments
        assigned(places)
        assignments += 1

    def stands(batch: Rows) -> None:
        nonlocal before_the_first_batch
        before_the_first_batch = before_the_first_batch or assignments
        submit(batch)

    def late(positions: Any, membership: bytes, limit_s: float) -> None:
        until_s = time.perf_counter() + 15
        # The metadata of a member that has left keeps its last generation, and a group may change once more before the first
        # batch, so only an assignment after that batch began shows that it is in again.
        while assignments <= before_the_first_batch and time.perf_counter() < until_s:
            source.poll(1, 0.1)
        commit(positions, source._membership() or membership, limit_s)

    assignment.assigned = joins  # type: ignore[method-assign]
    loop.step.submit = stands  # type: ignore[method-assign]
    loop.sink.commit = late  # type: ignore[method-assign]


def _membership_of_a_stranger(loop: Loop) -> None:
    """Sends the metadata of a consumer that has not joined: a classic group takes it."""
    loop.assignment.revoked = lambda places, *, lost: None  # type: ignore[method-assign]
    turns = loop.sink
    assert isinstance(turns, SinksInTurn)

    def unfenced(positions: Any, membership: bytes, limit_s: float) -> None:
        from confluent_kafka import TopicPartition

        sink = turns._open.popleft()
        assert isinstance(sink, KafkaSink)
        group = loop.consumption.group.encode()
        sink.flush(limit_s)
        offsets = [TopicPartition(t, p, c.offset) for (t, p), c in positions.items()]
        sink._producer.send_offsets_to_transaction(offsets, b"CGMDv2:\xff\xff\xff\xff" + group + b"\x00\x00\x01", limit_s)
        sink._producer.commit_transaction(limit_s)
        sink._in_transaction = False

    turns.commit = unfenced  # type: ignore[method-assign]


@pytest.mark.parametrize("break_it", [_membership_at_commit_time, _membership_of_a_stranger])
def test_the_ledger_catches_a_worker_with(servers: Servers, break_it: Callable[[Loop], None]) -> None:
    """A batch may be answered by both workers or, where the second was slow to start, by one, so there are four of them.
    A worker that does not give up what it lost may also find that it stands still there, and end."""
    tries = (_stand_still(servers, break_it, (StandsStill,)) for _ in range(4))
    assert any(problem.startswith("doubled") for problems in tries for problem in problems)


def _stand_still(servers: Servers, break_it: Callable[[Loop], None], ended_by: tuple[type[BaseException], ...] = ()) -> list[str]:
    """One worker stands in a batch past its poll interval; another takes over and answers; the first goes on, or ends by
    one of `ended_by`."""
    address = replace(servers.address, session_timeout_ms=1_500, max_poll_interval_ms=2_000)
    world = RealEchoGroup(address)
    still, moved = Echo(), threading.Event()

    def stand(rows: Rows) -> None:
        still.on_batch = lambda rows: None
        moved.wait(90)

    still.on_batch = stand
    first = world.loop(still, slot=0)
    break_it(first)
    world.send(*[f"v{i}".encode() for i in range(20)])
    with suppress(*ended_by), running(first):
        until(lambda: bool(still.batches))
        with running(world.loop(Echo(), slot=1)):
            until(answered(world, 20))
            moved.set()
            until_s = time.perf_counter() + 20
            while not world.problems() and time.perf_counter() < until_s:
                time.sleep(0.2)
    return world.problems()
