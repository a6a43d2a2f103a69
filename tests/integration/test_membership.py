"""The property of `tests/property/test_membership.py` on real Kafka: members come and go while they are full, hold retries
back and lose the answers of commits; in the end all is answered once, in three protocols."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace

import pytest

from streams.kafka.config import GroupProtocol
from streams.loop.loop import Loop
from tests.conftest import Servers
from tests.integration.test_exactly_once import answered
from tests.support.echo import Echo
from tests.support.faults import Fault, FaultySink
from tests.support.real import RealEchoGroup
from tests.support.waiting import until

pytestmark = pytest.mark.real
SLOTS = 3
SECONDS = 10.0


class Member:
    """A loop on a thread of its own, until it is told to leave."""

    def __init__(self, world: RealEchoGroup, slot: int, chance: random.Random, calm: threading.Event) -> None:
        echo = Echo()
        echo.on_batch = lambda rows: time.sleep(0 if calm.is_set() else chance.choice((0.0, 0.02, 0.2)))
        echo.later_fails = lambda: not calm.is_set() and chance.random() < 0.5

        def fault() -> Fault:
            faults = (Fault.UNSEEN, Fault.LOST, Fault.REFUSED)
            return chance.choice(faults) if not calm.is_set() and chance.random() < 0.05 else Fault.NONE

        look_ahead = chance.choice((16, 4_000))
        self.loop: Loop = world.loop(
            echo, slot=slot, sink=lambda sink: FaultySink(sink, fault), look_ahead_records=look_ahead, poll_records=16
        )
        self.raised: list[BaseException] = []
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run(self._leaving.is_set)
        except BaseException as error:
            self.raised.append(error)

    def leave(self) -> None:
        self._leaving.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a member did not leave"
        assert self.raised == []


@pytest.mark.parametrize("protocol", GroupProtocol)
def test_all_is_answered_once_in_the_end(servers: Servers, protocol: GroupProtocol) -> None:
    chance = random.Random(protocol.value)
    world = RealEchoGroup(replace(servers.address, protocol=protocol, session_timeout_ms=6_000))
    calm = threading.Event()
    members: dict[int, Member] = {0: Member(world, 0, chance, calm)}
    until_s = time.perf_counter() + SECONDS
    try:
        while time.perf_counter() < until_s:
            world.send(*chance.choices([b"v", b"later", b"poison", b"invalid"], (12, 2, 0.3, 1), k=chance.randint(1, 80)))
            slot = chance.randrange(SLOTS)
            if slot not in members:
                members[slot] = Member(world, slot, chance, calm)
            elif len(members) > 1 and chance.random() < 0.4:
                members.pop(slot).leave()
            time.sleep(chance.uniform(0.0, 0.8))
        calm.set()
        until(answered(world, world.sent), 90)
    finally:
        calm.set()
        for member in members.values():
            member.leave()
    assert world.problems() == []
