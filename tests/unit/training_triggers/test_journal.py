"""Events of runs that are written outside a loop: each kind once per run, without a reading of the topic for each event."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import BrokerUnavailable, TransactionAborted
from schemas.topics import TRAINING_EVENTS
from schemas.vocabulary import RunEvent
from streams.broker import Broadcast
from streams.memory.endpoints import MemoryBroadcast, MemorySink
from streams.rows import Polled
from tests.unit.test_fuzz_topics import CatalogueInMemory
from training_triggers.journal import Journal, RunJournal


def journal(world: CatalogueInMemory, events: Broadcast | None = None) -> Journal:
    events = events or world.broadcast(TRAINING_EVENTS.name)
    return Journal(events, MemorySink(world.broker, "", None), world.ids, world.clock, "test")


def written(world: CatalogueInMemory) -> int:
    return len(world.broadcast(TRAINING_EVENTS.name).read_to_end(1.0))


def test_a_kind_is_written_once_per_run_by_all_journals(tmp_path: Path) -> None:
    world = CatalogueInMemory(tmp_path)
    one, other = journal(world), journal(world)
    one.write("r", "m", RunEvent.TRAINED, "first")
    one.write("r", "m", RunEvent.TRAINED, "again")
    other.write("r", "m", RunEvent.TRAINED, "by another journal, which follows the topic")
    journal(world).write("r", "m", RunEvent.TRAINED, "by a journal that starts later")
    assert written(world) == 1
    one.write("r2", "m", RunEvent.TRAINED, "another run")
    one.write("r", "m", RunEvent.JUDGED, "another kind")
    assert written(world) == 3
    assert RunJournal(other, "r", "m").kinds() == {RunEvent.TRAINED, RunEvent.JUDGED}


def test_progress_is_written_each_time(tmp_path: Path) -> None:
    world = CatalogueInMemory(tmp_path)
    run = RunJournal(journal(world), "r", "m")
    for number in range(3):
        run.write(RunEvent.PROGRESS, f"step {number}")
    assert written(world) == 3


class Refusing(MemorySink):
    def __init__(self, world: CatalogueInMemory, error: TransactionAborted) -> None:
        super().__init__(world.broker, "", None)
        self._error = error

    def flush(self, limit_s: float) -> None:
        raise self._error


def test_an_outage_is_no_failure_of_the_run_and_an_event_that_is_refused_is_one(tmp_path: Path) -> None:
    world = CatalogueInMemory(tmp_path)

    def writer(error: TransactionAborted) -> Journal:
        events = world.broadcast(TRAINING_EVENTS.name)
        return Journal(events, Refusing(world, error), world.ids, world.clock, "test")

    with pytest.raises(BrokerUnavailable, match="the event trained of run r was not written: no answer"):
        writer(TransactionAborted("no answer", indefinite=True)).write("r", "m", RunEvent.TRAINED, "words")
    with pytest.raises(TransactionAborted, match="too large"):
        writer(TransactionAborted("too large", unwritable=TRAINING_EVENTS.name)).write("r", "m", RunEvent.JUDGED, "words")


class InParts(MemoryBroadcast):
    """Returns one new record per poll, as Kafka's reader returns a part of many."""

    def __init__(self, world: CatalogueInMemory) -> None:
        super().__init__(world.broker, TRAINING_EVENTS.name)
        self._left = Polled()

    def poll(self) -> Polled:
        self._left.extend(super().poll())
        rows = range(len(self._left))
        part, self._left = self._left.take(list(rows[:1])), self._left.take(list(rows[1:]))
        return part


def test_all_that_others_wrote_since_the_last_look_is_known_before_a_kind_is_written(tmp_path: Path) -> None:
    world = CatalogueInMemory(tmp_path)
    waiting, other = journal(world, InParts(world)), journal(world)
    for number in range(5):
        other.write("r2", "m", RunEvent.PROGRESS, f"step {number}")
    other.write("r", "m", RunEvent.FAILED, "the launcher gave it up")
    waiting.write("r", "m", RunEvent.FAILED, "again")
    assert written(world) == 6
