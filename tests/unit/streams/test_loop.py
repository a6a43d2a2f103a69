"""The loop on the in-memory broker: each record ends once, whatever happens to it or to the group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from schemas.errors import DeadLetterUnwritable, StandsStill, TransactionAborted
from schemas.topic_kinds import Order
from streams import headers as h
from streams.broker import Commit
from streams.clock import Clock
from streams.loop.batching import CostLine
from streams.loop.limits import Delivery
from streams.loop.loop import Loop
from streams.loop.outcome import Outcome
from streams.loop.step import BatchStep
from streams.rows import Place, Rows
from tests.support.echo import Echo, EchoGroup, settle
from tests.support.faults import Fault, FaultySink

BOTH = pytest.mark.parametrize("delivery", list(Delivery))


@BOTH
def test_every_request_is_answered_once(delivery: Delivery) -> None:
    world = EchoGroup()
    loop = world.loop(Echo(), delivery=delivery)
    world.send(*[f"v{i}".encode() for i in range(50)])
    settle(loop)
    assert sorted(value for _, _, value in world.results() if value) == sorted(f"v{i}".encode() for i in range(50))
    assert len({origin for _, origin, _ in world.results()}) == 50


@BOTH
def test_a_poison_record_is_alone_in_the_dead_letters_and_its_neighbours_are_answered(delivery: Delivery) -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo(), delivery=delivery)
    world.send(b"a", b"b", b"poison", b"c", b"d", b"e", b"f")
    settle(loop)
    assert [entry.value for entry in world.dead()] == [b"poison"]
    found = dict(world.dead()[0].headers)
    assert found[h.ERROR_CODE] == b"poison" and b"ValueError" in found[h.ERROR_MESSAGE]
    assert found[h.ORIGIN_OFFSET] == b"2" and found[h.KIP_1034 + "offset"] == b"2"
    assert Counter(status for status, _, _ in world.results()) == {"ok": 6, "failed": 1}


def test_a_retry_waits_in_its_topic_and_names_its_origin() -> None:
    world = EchoGroup(partitions=1)
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
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo())
    world.send(b"later")
    settle(loop, passes=200)
    assert [entry.value for entry in world.dead()] == [b"later"]
    assert dict(world.dead()[0].headers)[h.ATTEMPT] == b"2"
    assert dict(world.dead()[0].headers)[h.ERROR_CODE] == b"gave-up"
    assert [status for status, _, _ in world.results()] == ["failed"]


def test_a_retry_past_the_deadline_is_expired_at_once() -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo())
    world.send(b"later", headers=[(h.DEADLINE_MS, str(world.clock.now_ms() + 500).encode())])
    settle(loop, passes=3)
    assert [status for status, _, _ in world.results()] == ["expired"]


def test_strict_order_waits_for_the_record_in_place() -> None:
    world = EchoGroup(Order.STRICT, partitions=1)
    echo = Echo()
    loop = world.loop(echo)
    world.send(b"a", b"later", b"b")
    settle(loop, passes=3)
    assert [value for _, _, value in world.results()] == [b"a"]
    echo.mended = True
    settle(loop, passes=40)
    assert [value for _, _, value in world.results()] == [b"a", b"later", b"b"]


def test_expired_work_is_answered_and_not_computed() -> None:
    world = EchoGroup(partitions=1)
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
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo())
    world.send(b"bad", headers=headers)
    world.send(b"good")
    settle(loop)
    (dead,) = world.dead()
    assert dict(dead.headers)[h.ERROR_CODE] == code
    assert sum(len(k) + len(v) for k, v in dead.headers) < 64 * 1024
    assert Counter(status for status, _, _ in world.results()) == {"ok": 1, "failed": 1}


def test_a_record_over_the_limit_is_a_dead_letter_whole() -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo())
    world.send(b"x" * 10_001, b"ok")
    settle(loop)
    assert [len(entry.value or b"") for entry in world.dead()] == [10_001]


def test_higher_priority_goes_first() -> None:
    world = EchoGroup(partitions=1)
    echo = Echo()
    loop = world.loop(echo)
    world.send(*[b"low"] * 8)
    world.send(b"high", headers=[(h.PRIORITY, b"9")])
    order: list[bytes | None] = []
    echo.on_batch = lambda rows: order.extend(rows.values)
    settle(loop)
    assert order[0] == b"high"


def test_a_rebalance_in_mid_batch_doubles_and_loses_nothing() -> None:
    world = EchoGroup()
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
    world = EchoGroup()
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
    world = EchoGroup(partitions=2)
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


def test_what_is_in_memory_stays_under_the_look_ahead() -> None:
    world = EchoGroup(partitions=2)
    loop = world.loop(Echo(), look_ahead_records=16, poll_records=4)
    world.send(*[b"v"] * 200)
    highest = 0
    for _ in range(200):
        loop.run_once()
        highest = max(highest, loop.assignment.in_flight_records)
    assert len(world.results()) == 200
    assert highest <= 20
    assert (loop.assignment.in_flight_records, loop.assignment.in_flight_bytes) == (0, 0)


def test_a_clean_leave_commits_what_is_finished() -> None:
    world = EchoGroup(partitions=2)
    loop = world.loop(Echo(), commit_interval_ms=1e9, poll_records=8)  # a full poll does not commit at once
    loop.run_once()
    world.send(*[b"v"] * 8)
    loop.run_once()
    assert world.results() == []
    loop.source.close()
    assert len(world.results()) == 8


def test_who_is_alone_joins_once() -> None:
    world = EchoGroup(partitions=2)
    loop = world.loop(Echo())
    world.send(*[b"v"] * 20)
    settle(loop)
    assert loop.metrics.total("rebalances") == 1


def test_a_full_worker_reads_on_after_others_joined_and_left() -> None:
    world = EchoGroup(partitions=4)
    slow = Echo()
    slow.on_batch = lambda rows: world.clock.sleep(0.3)
    loop = world.loop(slow, look_ahead_records=16, poll_records=16)
    world.send(*[b"v"] * 400)
    for _ in range(4):
        loop.run_once()
    assert loop.assignment.pauses.holds_back((world.consumption.topic.name, 0)), "the test begins where the worker is full"
    other = world.loop(Echo(), slot=1)
    settle(loop, other, passes=3)
    other.source.close()
    settle(loop, passes=400)
    assert len({origin for _, origin, _ in world.results()}) == 400


def test_a_retry_that_waited_through_a_change_of_the_group_is_answered() -> None:
    world = EchoGroup(partitions=1)
    echo = Echo()
    loop = world.loop(echo)
    world.send(b"later")
    settle(loop, passes=4)
    other = world.loop(Echo(), slot=1)
    settle(loop, other, passes=3)
    other.source.close()
    echo.mended = True
    settle(loop, passes=60)
    assert [status for status, _, _ in world.results()] == ["ok"]


def test_a_claim_is_written_at_assignment_and_cleared_by_progress() -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo())
    loop.run_once()
    place = ("echo-requests-v1", 0)
    assert world.broker.groups["echo"].committed[place].note == "claim=1"
    world.send(b"v")
    settle(loop)
    assert world.broker.groups["echo"].committed[place].note == ""


@pytest.mark.parametrize("fault", [Fault.UNSEEN, Fault.LOST, Fault.REFUSED])
@pytest.mark.parametrize("stops", ["after it went on", "in the commit at revocation"])
def test_a_commit_that_seemed_to_fail_is_not_undone_by_a_clean_leave(fault: Fault, stops: str) -> None:
    world = EchoGroup(partitions=2)
    echo = Echo()
    faults = iter([fault])
    loop = world.loop(echo, sink=lambda sink: FaultySink(sink, lambda: next(faults, Fault.NONE)))
    loop.run_once()
    world.send(*[f"v{i}".encode() for i in range(8)])
    if stops == "after it went on":
        settle(loop)
    else:
        loop.limits = replace(loop.limits, commit_interval_ms=1e9)
        echo.on_batch = lambda rows: world.clock.sleep(1.0)
        loop._commit_if_due = lambda **when: None  # type: ignore[method-assign]
        loop.run_once()
    loop.source.close()
    loop._dropped()
    settle(world.loop(Echo(), slot=1), passes=20)
    origins = [origin for _, origin, _ in world.results()]
    assert len(origins) == len(set(origins)) == 8


def test_a_claim_that_may_come_late_ends_the_membership_it_was_sent_under() -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo())
    generations: list[int] = []
    commit = loop.source.commit

    def unanswered(positions: object) -> None:
        loop.source.commit = commit  # type: ignore[method-assign]
        generations.append(loop.source._generation)  # type: ignore[attr-defined]
        raise TransactionAborted("no answer", indefinite=True)

    loop.source.commit = unanswered  # type: ignore[method-assign]
    loop.run_once()
    loop.run_once()
    with pytest.raises(TransactionAborted):
        world.broker.check_member("echo", loop.source.name, generations[0])  # type: ignore[attr-defined]
    world.send(b"v")
    settle(loop)
    assert [status for status, _, _ in world.results()] == ["ok"]


@pytest.mark.parametrize("healed", [True, False])
def test_a_partition_that_stands_still_is_read_again_or_the_process_ends(healed: bool) -> None:
    """The client keeps a partition to itself, as after a pause that nobody knows of."""
    world = EchoGroup(partitions=2)
    loop = world.loop(Echo())
    settle(loop)
    source = loop.source
    source.pause([("echo-requests-v1", 1)])
    if not healed:
        source.resume = lambda places: None  # type: ignore[method-assign]
    world.send(b"a", partition=0)
    world.send(b"b", partition=1)
    settle(loop, passes=10)
    assert [value for _, _, value in world.results()] == [b"a"]
    if healed:
        settle(loop, passes=40)
        assert [value for _, _, value in world.results()] == [b"a", b"b"]
        assert loop.metrics.total("healings") == 1
        settle(loop, passes=40)
        assert loop.metrics.total("healings") == 1
        assert loop.assignment.standing == frozenset()
    else:
        with pytest.raises(StandsStill):
            settle(loop, passes=400)


def test_a_busy_owner_heals_a_partition_that_stands_still_beside_others() -> None:
    world = EchoGroup(partitions=2)
    echo = Echo()
    loop = world.loop(echo)
    settle(loop)
    loop.source.pause([("echo-requests-v1", 1)])
    echo.on_batch = lambda rows: world.clock.sleep(0.5)
    world.send(b"alone", partition=1)
    for _ in range(200):
        world.send(b"v", partition=0)
        loop.run_once()
        if any(value == b"alone" for _, _, value in world.results()):
            break
    else:
        pytest.fail("never read")
    assert loop.metrics.total("healings") == 1


def test_what_waits_for_a_reason_does_not_stand_still() -> None:
    world = EchoGroup(partitions=1)
    echo = Echo()
    loop = world.loop(echo)
    world.send(b"later")
    settle(loop, passes=60)
    assert world.clock.monotonic_s() > 10
    assert loop.metrics.total("healings") == 0


def test_work_that_takes_long_does_not_stand_still() -> None:
    """A step that answers after minutes, as a chat does."""
    world = EchoGroup(partitions=1)

    def working(wait_s: float) -> list[Outcome]:
        world.clock.sleep(wait_s)
        return []

    loop = world.loop(Echo())
    loop.step.busy = lambda: True  # type: ignore[method-assign]
    loop.step.submit = lambda batch: None  # type: ignore[method-assign]
    loop.step.completed = working  # type: ignore[method-assign]
    world.send(b"long")
    settle(loop, passes=2_000)
    assert world.clock.monotonic_s() > 90
    assert loop.metrics.total("healings") == 0


def test_a_clean_leave_clears_the_claim() -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo())
    loop.run_once()
    loop.source.close()
    assert world.broker.groups["echo"].committed["echo-requests-v1", 0].note == ""


class Keeping(Echo):
    """With state beside its offsets."""

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        return


def test_a_processor_with_state_stays_on_the_loops_thread_however_long_its_batches_are() -> None:
    """A batch on another thread would write into what was restored meanwhile: events seen before the change of the group, and never again."""
    world = EchoGroup()
    batches: list[Rows] = []
    echo = Echo()
    echo.on_batch = batches.append
    loop = world.loop(echo)
    world.send(b"v")
    settle(loop)
    line = CostLine()
    line.observe(1.0, 60_000.0)
    without_state = BatchStep(echo, world.clock, line)
    without_state.submit(batches[0])
    assert without_state.busy()
    without_state.close()
    step = BatchStep(Keeping(), world.clock, line)
    for _ in range(3):
        step.submit(batches[0])
        assert not step.busy()
        assert len(step.completed(0.0)) == 1


class KeepingStep(BatchStep):
    """Keeps rows for 30 s on purpose, as the archive does, or for ever."""

    def __init__(self, echo: Echo, clock: Clock, for_ever: bool = False) -> None:
        super().__init__(echo, clock, CostLine())
        self._now_s, self._for_ever = clock.monotonic_s, for_ever
        self._kept: list[Rows] = []
        self._since_s = 0.0

    def submit(self, batch: Rows) -> None:
        self._since_s = self._since_s if self._kept else self._now_s()
        self._kept.append(batch)

    def completed(self, wait_s: float) -> list[Outcome]:
        if self._now_s() - self._since_s >= 30.0 and not self._for_ever:
            kept, self._kept = self._kept, []
            for batch in kept:
                super().submit(batch)
        return super().completed(wait_s)

    def busy(self) -> bool:
        return False

    def keeps(self, place: Place) -> bool:
        return self._now_s() - self._since_s < 40.0 and any(place in batch.spans() for batch in self._kept)

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        self._kept = []


@pytest.mark.parametrize("for_ever", [False, True])
def test_rows_that_a_step_keeps_on_purpose_do_not_stand_still_until_its_limit_is_over(for_ever: bool) -> None:
    """With few records the archive's offsets move once in 30 s. It once counted as standing still and ended, again and again."""
    world = EchoGroup(partitions=2)
    loop = world.loop(Echo())
    loop.step = KeepingStep(Echo(), world.clock, for_ever)
    settle(loop)
    world.send(b"a", partition=0)
    if for_ever:
        with pytest.raises(StandsStill):
            settle(loop, passes=2_000)
        return
    until_s = world.clock.monotonic_s() + 60
    while world.clock.monotonic_s() < until_s:
        loop.run_once()
    assert loop.metrics.total("healings") == 0
    assert [value for _, _, value in world.results()] == [b"a"]
