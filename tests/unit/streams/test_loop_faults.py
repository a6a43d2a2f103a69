"""Whose fault it is: of the producer, of a record, of the step, of what a batch needs, of the child process."""

from __future__ import annotations

import pytest

from schemas.errors import (
    BrokerUnavailable,
    DependencyUnavailable,
    Fenced,
    PoisonRecord,
    RetryLater,
    TransactionAborted,
)
from schemas.topic_kinds import Order
from streams import headers as h
from streams.loop.loop import Loop
from streams.loop.outcome import Emit, Outcome, Reject
from streams.loop.quarantine import Quarantine
from streams.memory.endpoints import MemorySink
from streams.rows import OutRecords, Rows
from tests.support.echo import RESULTS, Echo, EchoGroup, codes, once, result, settle, statuses

TOPIC = "echo-requests-v1"


# --- the producer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow_batches", [1, 4])
def test_a_transaction_that_the_broker_ended_at_its_time_out_is_no_fencing(slow_batches: int) -> None:
    world = EchoGroup(partitions=1)
    echo = Echo()
    loop = world.loop(echo)
    world.send(*[b"v"] * 64)

    def freeze(rows: Rows) -> None:
        if loop.outbox.opened is not None and world.clock.monotonic_s() < 20 * slow_batches:
            world.clock.sleep(20)

    echo.on_batch = freeze
    settle(loop, passes=40)
    assert statuses(world) == {"ok": 64} and once(world)
    assert loop.metrics.total("aborts") >= 1


def test_of_two_live_processes_with_one_id_exactly_one_goes_on() -> None:
    world = EchoGroup(partitions=2)
    loops = [world.loop(Echo(), slot=0), world.loop(Echo(), slot=0)]
    stopped: list[Loop] = []
    causes: list[str] = []
    for i in range(30):
        world.send(b"v", b"w", partition=i % 2)
        for loop in loops:
            if loop in stopped:
                continue
            try:
                loop.run_once()
            except Fenced as fenced:
                causes.append(str(fenced))
                loop.source.close()
                stopped.append(loop)
    assert ["--slot" in cause for cause in causes] == [True]
    (left,) = [loop for loop in loops if loop not in stopped]
    settle(left, passes=30)
    assert statuses(world) == {"ok": 60} and once(world)


def test_a_producer_that_cannot_be_replaced_yet_is_asked_for_again() -> None:
    world = EchoGroup(partitions=1)

    class Away(MemorySink):
        refused = 0

        def rebuild(self) -> None:
            if 0 < self.refused < 20:
                self.refused += 1
                raise BrokerUnavailable("start of transactions: no broker")
            super().rebuild()

        def commit(self, *args: object) -> None:
            if not self.refused:
                self.refused = 1
                raise TransactionAborted("the commit did not return", indefinite=True)
            super().commit(*args)  # type: ignore[arg-type]

    loop = world.loop(Echo(), sink=lambda _: Away(world.broker, "echo", "echo-0"))
    settle(loop, passes=1)
    world.send(*[b"v"] * 9)
    settle(loop, passes=5)
    assert isinstance(loop.sink, Away) and loop.sink.refused == 20
    assert statuses(world) == {"ok": 9} and once(world)


# --- a record that cannot be written ------------------------------------------------------------------------------------


def test_a_result_that_its_topic_never_takes_is_one_dead_letter_and_all_others_are_answered() -> None:
    world = EchoGroup()
    world.broker.limits[RESULTS] = 2_000
    loop = world.loop(Echo())
    world.send(*[f"v{i}".encode() for i in range(60)])
    world.send(b"x" * 5_000, partition=0)
    world.send(*[f"w{i}".encode() for i in range(60)])
    settle(loop, passes=300)
    assert statuses(world) == {"ok": 120, "failed": 1} and once(world)
    assert [entry.value for entry in world.dead()] == [b"x" * 5_000]
    assert codes(world) == {b"unwritable": 1}
    assert not loop.recovery.one_at_a_time and not loop.held_back


def test_a_dead_letter_that_is_refused_as_well_is_written_without_what_the_record_brought() -> None:
    world = EchoGroup(partitions=2)
    world.broker.limits |= {RESULTS: 2_000, world.consumption.dead_letter_topic: 3_000}
    loop = world.loop(Echo())
    world.send(b"x" * 5_000, partition=0, headers=[("own", b"y")])
    world.send(*[b"v"] * 20)
    settle(loop, passes=100)
    assert statuses(world) == {"ok": 20, "failed": 1} and once(world)
    (dead,) = world.dead()
    assert dead.value is None and "own" not in dict(dead.headers)
    assert dict(dead.headers)[h.ORIGIN_OFFSET] == b"0"


def test_where_not_even_that_can_be_written_only_that_partition_stops_and_goes_on_when_it_can() -> None:
    world = EchoGroup(partitions=2)
    world.broker.limits |= {RESULTS: 2_000, world.consumption.dead_letter_topic: 10}
    loop = world.loop(Echo())
    world.send(b"x" * 5_000, partition=0)
    world.send(b"behind", partition=0)
    settle(loop, passes=40)
    world.send(*[b"v"] * 20, partition=1)
    settle(loop, passes=40)
    assert statuses(world) == {"ok": 20}
    assert list(loop.assignment.pauses.stopped) == [(TOPIC, 0)]
    del world.broker.limits[world.consumption.dead_letter_topic]
    settle(loop, passes=400)
    assert statuses(world) == {"ok": 21, "failed": 1} and once(world)
    assert not loop.assignment.pauses.stopped


def test_a_key_that_results_could_not_bear_is_refused_with_an_answer() -> None:
    world = EchoGroup(partitions=1)
    world.broker.limits[RESULTS] = 60_000
    loop = world.loop(Echo())
    world.send(*[b"v"] * 10)
    world.broker.append(OutRecords(TOPIC, [b"k" * 100_000], [b"small"], [[]], [0]), None)
    settle(loop, passes=10)
    assert statuses(world) == {"ok": 10, "failed": 1}
    (dead,) = world.dead()
    assert dead.key == b"k" * 100_000 and codes(world) == {b"too-large": 1}
    assert loop.metrics.total("aborts") == 0


def test_retries_and_dead_letters_of_new_partitions_go_to_topics_that_have_fewer() -> None:
    world = EchoGroup(partitions=2)
    world.broker.create(TOPIC, 8)
    echo = Echo()
    loop = world.loop(echo)
    for partition in range(8):
        world.send(b"later", b"poison", b"v", partition=partition)
    settle(loop, passes=10)
    echo.mended = True
    settle(loop, passes=60)
    assert statuses(world) == {"ok": 16, "failed": 8} and once(world)


def test_a_topic_that_takes_nothing_holds_all_back_with_growing_pauses_and_tells() -> None:
    world = EchoGroup(partitions=2)
    loop = world.loop(Echo())
    settle(loop, passes=1)
    world.broker.refusing.add(RESULTS)
    world.send(*[b"v"] * 20)
    settle(loop, passes=300)
    assert "takes no records" in loop.held_back
    assert loop.metrics.total("aborts") < 40
    assert not world.dead()
    world.broker.refusing.clear()
    settle(loop, passes=400)
    assert statuses(world) == {"ok": 20} and once(world)
    assert not loop.held_back


# --- our fault or the records' ------------------------------------------------------------------------------------------


class Breakable(Echo):
    broken = False

    def process(self, rows: Rows) -> list[Outcome]:
        if self.broken:
            raise ValueError("every record fails")
        return super().process(rows)


@pytest.mark.parametrize("order", [Order.RELAXED, Order.STRICT])
@pytest.mark.parametrize("answered_before", [0, 5])
def test_a_step_that_fails_for_all_drains_no_topic_and_nothing_ends(order: Order, answered_before: int) -> None:
    world = EchoGroup(order, partitions=2)
    echo = Breakable()
    loop = world.loop(echo, max_failures_in_a_row=10)
    world.send(*[b"before"] * answered_before)
    settle(loop, passes=5)
    echo.broken = True
    world.send(*[b"v"] * 200)
    settle(loop, passes=400)
    assert len(world.dead()) <= 10
    assert "every record fails" in loop.held_back
    echo.broken = False
    settle(loop, passes=600)
    assert statuses(world) == {"ok": answered_before + 200 - len(world.dead()), "failed": len(world.dead())} and once(world)
    assert not loop.held_back


@pytest.mark.parametrize("answered_before", [0, 1])
def test_what_one_sender_writes_holds_nobody_else_back(answered_before: int) -> None:
    world = EchoGroup(partitions=2)
    loop = world.loop(Echo(), max_failures_in_a_row=10)
    world.send(*[b"before"] * answered_before)
    settle(loop, passes=5)
    world.send(*[b"poison"] * 300, partition=0)
    world.send(*[b"v"] * 20, partition=1)
    settle(loop, passes=200)
    assert statuses(world) == {"ok": answered_before + 20, "failed": 300} and once(world)
    assert not loop.held_back


def test_a_run_of_nothing_but_poison_ends_where_the_step_is_known_to_work() -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo(), max_failures_in_a_row=10)
    world.send(b"before")
    settle(loop, passes=5)
    world.send(*[b"poison"] * 300)
    settle(loop, passes=300)
    assert statuses(world) == {"ok": 1, "failed": 300}


def test_what_senders_do_wrong_never_counts() -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo(), max_failures_in_a_row=10)
    world.send(*[b"invalid"] * 300)
    settle(loop, passes=60)
    assert statuses(world) == {"failed": 300}
    assert not loop.held_back


def test_retries_that_came_to_their_end_in_an_outage_hold_nothing_back() -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo(), max_failures_in_a_row=10)
    world.send(*[b"later"] * 50)
    for _ in range(400):
        loop.run_once()
        assert not loop.held_back
    assert codes(world) == {b"gave-up": 50}


def test_what_a_whole_batch_lacks_is_asked_for_once_and_comes_again_as_a_whole() -> None:
    world = EchoGroup(partitions=1)
    echo = Echo()
    loop = world.loop(echo)
    away = True

    def ask(rows: Rows) -> None:
        if away:
            raise DependencyUnavailable("the device is not free")

    echo.on_batch = ask
    world.send(*[b"v"] * 8)
    settle(loop, passes=3)
    assert echo.batches == [8]
    away = False
    settle(loop, passes=30)
    assert statuses(world) == {"ok": 8} and not world.dead()


def test_dead_letters_that_were_refused_are_written_when_their_topic_takes_them_again() -> None:
    world = EchoGroup(partitions=2)
    loop = world.loop(Echo())
    world.broker.refusing.add(world.consumption.dead_letter_topic)
    world.send(b"poison", partition=0)
    settle(loop, passes=5)
    assert list(loop.assignment.pauses.stopped) == [(TOPIC, 0)]
    world.send(b"good", partition=1)
    settle(loop, passes=60)
    assert statuses(world) == {"ok": 1}
    world.broker.refusing.clear()
    world.send(b"behind", partition=0)
    settle(loop, passes=400)
    assert statuses(world) == {"ok": 2, "failed": 1} and once(world)
    assert not loop.assignment.pauses.stopped


# --- suspects -----------------------------------------------------------------------------------------------------------


class FakeQuarantine(Quarantine):
    def __init__(self, clock_s: float = 0.0) -> None:
        super().__init__(lambda: None)  # type: ignore[arg-type,return-value]
        self.starts, self.ran, self.each_takes_s = True, 0, clock_s

    def run(self, row: Rows) -> list[Outcome]:
        if not self.starts:
            raise RetryLater("no memory for a second model")
        self.ran += 1
        if row.values[0] == b"lethal":
            return [Reject(row, PoisonRecord("killed by signal 9"), "quarantine")]
        return [Emit(row, result(row, "ok", row.values))]


def suspicious(world: EchoGroup, quarantine: FakeQuarantine) -> Loop:
    loop = world.loop(Echo(), quarantine=quarantine)
    loop.run_once()
    loop.assignment.suspects = dict.fromkeys(loop.source.assignment(), 4_000)
    return loop


def test_where_the_quarantine_does_not_start_its_rows_wait_and_none_is_blamed() -> None:
    world = EchoGroup(partitions=1)
    quarantine = FakeQuarantine()
    loop = suspicious(world, quarantine)
    quarantine.starts = False
    world.send(*[b"v"] * 30)
    world.send(b"lethal")
    settle(loop, passes=100)
    assert not world.results() and not world.dead()
    quarantine.starts = True
    settle(loop, passes=400)
    assert statuses(world) == {"ok": 30, "failed": 1}


def test_a_round_runs_suspects_for_a_while_and_then_serves_the_group() -> None:
    world = EchoGroup(partitions=1)
    quarantine = FakeQuarantine()
    loop = suspicious(world, quarantine)
    world.send(*[b"v"] * 30)
    longest_s = 0.0
    real = quarantine.run

    def slow(row: Rows) -> list[Outcome]:
        world.clock.sleep(30)
        return real(row)

    quarantine.run = slow  # type: ignore[method-assign]
    for _ in range(60):
        began_s = world.clock.monotonic_s()
        loop.run_once()
        longest_s = max(longest_s, world.clock.monotonic_s() - began_s)
    assert longest_s < 40
    assert statuses(world) == {"ok": 30} and once(world)
