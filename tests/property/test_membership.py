"""Whatever the group does, and whatever becomes of commits: all is answered in the end, and nothing twice.

Members join, leave, are expelled and frozen; commits are refused, lost, or happen unseen; records wait for another try, fail,
are refused or kill nothing; partitions are held and full. At the end the faults stop, and every request has its one result.
"""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.loop import Loop
from streams.rows import Rows
from tests.echo import Echo, World
from tests.faults import Fault, FaultySink

SLOTS = 3
FAULTS = (Fault.UNSEEN, Fault.LOST, Fault.REFUSED)


class Group:
    """Three slots of one group on the in-memory broker, and what happens to them."""

    def __init__(self, chance: random.Random, partitions: int) -> None:
        self.chance = chance
        self.world = World(partitions=partitions)
        self.members: dict[int, Loop] = {}
        self.frozen: set[int] = set()
        self.faulty = True
        self.sent = 0

    def send(self) -> None:
        values = self.chance.choices([b"v", b"later", b"poison", b"invalid"], (12, 2, 0.3, 1), k=self.chance.randint(1, 12))
        self.world.send(*values)
        self.sent += len(values)

    def join(self) -> None:
        slot = self.chance.randrange(SLOTS)
        if slot in self.members:
            return
        echo = Echo()
        echo.on_batch = self._slowly
        echo.later_fails = lambda: self.faulty and self.chance.random() < 0.5
        loop = self.world.loop(echo, slot=slot, look_ahead_records=self.chance.choice((8, 4_000)), poll_records=16)
        loop.sink = loop.outbox._sink = FaultySink(loop.sink, self._fault)
        self.members[slot] = loop

    def _slowly(self, rows: Rows) -> None:
        self.world.clock.sleep(self.chance.choice((0.0, 0.05, 0.5)))

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
            self.world.broker.fence(f"echo-{slot}")

    def freeze(self) -> None:
        slot = self._any()
        if slot is not None:
            self.frozen ^= {slot}

    def run(self) -> None:
        for slot, loop in list(self.members.items()):
            if slot not in self.frozen:
                loop.run_once()

    def _any(self) -> int | None:
        return self.chance.choice(sorted(self.members)) if self.members else None


@given(st.integers(0, 2**32), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_all_is_answered_once_in_the_end(seed: int, partitions: int) -> None:
    group = Group(random.Random(seed), partitions)
    for _ in range(group.chance.randint(5, 60)):
        happening = group.chance.choices(
            [group.run, group.send, group.join, group.leave, group.expel, group.die, group.freeze], (10, 5, 3, 1, 1, 1, 1)
        )[0]
        happening()
    group.faulty = False
    group.frozen.clear()
    if not group.members:
        group.join()
    for _ in range(1_500):
        group.run()
        if len(origins(group.world)) >= group.sent and not waiting(group):
            break
    answered = origins(group.world)
    assert len(answered) == group.sent, f"{group.sent - len(answered)} requests have no answer"
    assert set(answered.values()) <= {1}, "a request has more than one answer"


def origins(world: World) -> Counter[str]:
    return Counter(origin for _, origin, _ in world.results())


def waiting(group: Group) -> bool:
    return any(loop.assignment.in_flight_records for loop in group.members.values())
