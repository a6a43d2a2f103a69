"""Whatever the group does, and whatever becomes of commits: all is answered in the end, and nothing twice where that is promised.

Members join, leave, are expelled and frozen; commits are refused, lost, or happen unseen; records wait for another try, fail,
are refused or cannot be written; runs of failures hold the work back; what a batch needs is away; a topic refuses; partitions are
held, full, and become more. At the end the faults stop, and every request has its result.
"""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import DependencyUnavailable
from schemas.topic_kinds import Order
from streams.loop.limits import Delivery
from streams.loop.loop import Loop
from streams.rows import Place, Rows
from tests.support.background import AtSomeTime
from tests.support.echo import RESULTS, Echo, EchoGroup
from tests.support.faults import Fault, FaultySink

SLOTS = 3
FAULTS = (Fault.UNSEEN, Fault.LOST, Fault.REFUSED)
TOO_LARGE = b"v" * 3_000
RESULT_BYTES = 1_000


class Group:
    """Three slots of one group on the in-memory broker, and what happens to them."""

    def __init__(self, chance: random.Random, partitions: int, order: Order, delivery: Delivery) -> None:
        self.chance, self.delivery = chance, delivery
        self.poison = b"v" if order is Order.STRICT else b"poison"  # in strict order a run of poison waits for a person
        self.world = EchoGroup(order, partitions)
        self.world.broker.limits[RESULTS] = RESULT_BYTES
        self.world.broker.queues = lambda: chance.random() < 0.3
        self.broken = self.away = False
        self.members: dict[int, Loop] = {}
        self.frozen: set[int] = set()
        self.faulty = True
        self.sent = 0

    def send(self) -> None:
        kinds = [b"v", b"later", self.poison, b"invalid", TOO_LARGE]
        values = self.chance.choices(kinds, (12, 2, 0.3, 1, 0.3), k=self.chance.randint(1, 12))
        self.world.send(*values)
        self.sent += len(values)

    def send_poison(self) -> None:
        """One sender's run of records that all fail, with its neighbours' good ones behind."""
        values = [self.poison] * self.chance.randint(3, 12) + [b"v"]
        self.world.send(*values, partition=self.chance.randrange(self.world.broker.partitions[self.world.consumption.topic.name]))
        self.sent += len(values)

    def send_good(self) -> None:
        for partition in range(self.world.broker.partitions[self.world.consumption.topic.name]):
            self.world.send(b"v", partition=partition)
            self.sent += 1

    def grow(self) -> None:
        """The topic gets a partition more; those written by its numbers do not."""
        topic = self.world.consumption.topic.name
        self.world.broker.create(topic, self.world.broker.partitions[topic] + 1)
        for name in list(self.world.broker.groups):
            self.world.broker._rebalance(name)

    def break_step(self) -> None:
        self.broken = not self.broken

    def take_away(self) -> None:
        self.away = not self.away

    def refuse(self) -> None:
        """Results or dead letters are not taken for a while."""
        self.world.broker.refusing ^= {self.chance.choice([RESULTS, *self.world.consumption.retry_topics()])}

    def mend(self) -> None:
        self.faulty = self.broken = self.away = False
        self.world.broker.refusing.clear()
        self.frozen.clear()
        if not self.members:
            self.join()

    def join(self) -> None:
        slot = self.chance.randrange(SLOTS)
        if slot in self.members:
            return
        echo = Echo()
        echo.on_batch = self._slowly
        echo.later_fails = lambda: self.faulty and self.chance.random() < 0.5
        # Behind a look-ahead full of poison nobody sees that the step works, so few failures go with a long one.
        look_ahead, failures = self.chance.choice(((8, 10_000), (4_000, 2), (4_000, 100)))
        loop = self.world.loop(
            echo,
            slot=slot,
            delivery=self.delivery,
            max_failures_in_a_row=failures,
            sink=lambda sink: FaultySink(sink, self._fault),
            background=AtSomeTime(self.chance),
            look_ahead_records=look_ahead,
            poll_records=16,
        )
        self.members[slot] = loop

    def _slowly(self, rows: Rows) -> None:
        self.world.clock.sleep(self.chance.choice((0.0, 0.05, 0.5)))
        if self.away:
            raise DependencyUnavailable("what all of them need does not answer")
        if self.broken:
            raise ValueError("the step is broken")

    def _fault(self) -> Fault:
        return self.chance.choice(FAULTS) if self.faulty and self.chance.random() < 0.1 else Fault.NONE

    def leave(self) -> None:
        slot = self._any()
        if slot is not None:
            loop = self.members.pop(slot)
            loop._drain()
            loop._dropped()
            loop.source.close()
            loop.sink.close()

    def expel(self) -> None:
        slot = self._any()
        if slot is not None and self.members[slot].source.name in self.world.broker.groups["echo"].members:  # type: ignore[attr-defined]
            self.world.broker.expel("echo", self.members[slot].source.name)  # type: ignore[attr-defined]

    def die(self) -> None:
        """As with kill -9: nothing is cleared, the group notices by the session."""
        slot = self._any()
        if slot is not None:
            loop = self.members.pop(slot)
            group = self.world.broker.groups["echo"]
            if loop.source.name in group.members:  # type: ignore[attr-defined]
                self.world.broker.expel("echo", loop.source.name)  # type: ignore[attr-defined]
            for name in [name for name in self.world.broker.epochs if name.partition("/")[0] == f"echo-{slot}"]:
                self.world.broker.fence(name)

    def freeze(self) -> None:
        slot = self._any()
        if slot is not None:
            self.frozen ^= {slot}

    def run(self) -> None:
        self.world.clock.sleep(0.001)  # as a wait may be too short to move a number
        for slot, loop in list(self.members.items()):
            if slot not in self.frozen:
                loop.run_once()

    def _any(self) -> int | None:
        return self.chance.choice(sorted(self.members)) if self.members else None


@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from(Order), st.sampled_from(Delivery))
@settings(max_examples=200, deadline=None)
def test_all_is_answered_in_the_end(seed: int, partitions: int, order: Order, delivery: Delivery) -> None:
    group = Group(random.Random(seed), partitions, order, delivery)
    often = [group.run, group.send, group.join]
    seldom = [
        group.leave,
        group.expel,
        group.die,
        group.freeze,
        group.send_poison,
        group.grow,
        group.break_step,
        group.take_away,
        group.refuse,
    ]
    for _ in range(group.chance.randint(5, 60)):
        group.chance.choices([*often, *seldom], [10, 5, 3, *[1] * len(seldom)])[0]()
    group.mend()
    for passes in range(3_000):
        if passes % 500 == 499:  # a run of failures waits for a sign that the step works
            group.send_good()
        group.run()
        if len(origins(group.world)) >= group.sent and not waiting(group):
            break
    answered = origins(group.world)
    assert len(answered) == group.sent, f"{group.sent - len(answered)} requests have no answer"
    if delivery is Delivery.EXACTLY_ONCE:
        assert set(answered.values()) <= {1}, "a request has more than one answer"


@given(st.integers(0, 2**32), st.sampled_from(Order), st.sampled_from(Delivery))
@settings(max_examples=200, deadline=None)
def test_results_of_a_partition_come_in_the_order_of_its_requests(seed: int, order: Order, delivery: Delivery) -> None:
    """Commits end, and records leave the producer's queue, at any time."""
    chance = random.Random(seed)
    world = EchoGroup(order, partitions=2)
    world.broker.queues = lambda: chance.random() < 0.7
    loop = world.loop(Echo(), delivery=delivery, background=AtSomeTime(chance), poll_records=4)
    sent = 0
    while sent < 60:
        if chance.random() < 0.5:
            world.send(*[b"v"] * chance.randint(1, 5))
            sent = len(world.broker.records(world.consumption.topic.name))
        world.clock.sleep(0.001)
        loop.run_once()
    for _ in range(200):
        world.clock.sleep(0.01)
        loop.run_once()
    written: dict[tuple[Place, str], list[int]] = {}
    for place, _, entry in world.broker.records(RESULTS):
        _, partition, offset = dict(entry.headers)["origin"].decode().split("/")
        written.setdefault((place, partition), []).append(int(offset))
    assert sum(map(len, written.values())) == sent
    for offsets in written.values():
        assert offsets == sorted(offsets)


def origins(world: EchoGroup) -> Counter[str]:
    return Counter(origin for _, origin, _ in world.results())


def waiting(group: Group) -> bool:
    return any(loop.assignment.in_flight_records for loop in group.members.values())
