"""The property of `tests/property/test_membership.py` on real Kafka: members come and go while they are full, hold retries
back and lose the answers of commits; in the end all is answered once, in three protocols."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from streams.kafka.config import GroupProtocol
from streams.kafka.source import KafkaSource
from streams.loop.loop import Loop
from streams.rows import Place
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
        self._thread.join(180)
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


class Closing:
    """A client that writes down when it is closed."""

    def __init__(self, consumer: Any, told: list[str]) -> None:
        self._consumer, self._told = consumer, told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def close(self) -> None:
        self._told.append("closed")
        self._consumer.close()


@pytest.mark.parametrize("protocol", GroupProtocol)
def test_a_member_has_left_before_its_client_closes(
    servers: Servers, protocol: GroupProtocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client may tell a change of the group after its own thread has ended, and waits for it then with Python's lock."""
    world = RealEchoGroup(replace(servers.address, protocol=protocol))
    loop = world.loop(Echo())
    source = loop.source
    assert isinstance(source, KafkaSource)
    told: list[str] = []
    revoked = loop.assignment.revoked

    def noted(places: Sequence[Place], *, lost: bool) -> None:
        told.append("revoked")
        revoked(places, lost=lost)

    monkeypatch.setattr(loop.assignment, "revoked", noted)

    def joined() -> bool:
        loop.run_once()
        return bool(source.assignment())

    until(joined, 60)
    monkeypatch.setattr(source, "_consumer", Closing(source._consumer, told))
    loop.run(lambda: True)
    assert told[-1] == "closed"
    assert "revoked" in told
