"""Compare and set on `model-updates-v1`: of several writers at once each decides on what is written last."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from inference_workers.models.folder import ModelFolder
from inference_workers.models.unshipped import MODERATION_OCR
from schemas import avro
from schemas.errors import BadSettings, BrokerUnavailable, ModelRefused, TransactionAborted
from schemas.generated import ModelUpdate
from schemas.topics import MODEL_UPDATES
from schemas.vocabulary import UpdateKind
from streams.clock import ManualClock
from streams.memory.cluster import MemoryBroker
from streams.memory.endpoints import MemoryBroadcast, MemorySink
from streams.rows import OutRecords
from streams.schema_registry import MemoryRegistry
from training_triggers.versions.compare_and_set import TRANSACTIONAL_ID, TRIES, Updates
from training_triggers.versions.promotion import Source, announce, challenge, roll_back, shipped

MODEL = "moderation-text"


class Topic:
    def __init__(self) -> None:
        self.clock, self.ids = ManualClock(), MemoryRegistry()
        self.ids.register(MODEL_UPDATES.subject, avro.schema("model-update"))
        self.broker = MemoryBroker(self.clock)
        self.broker.create(MODEL_UPDATES.name, 1)

    def log(self, writer: str = "a", sink: Callable[[], MemorySink] | None = None) -> Updates:
        begin = sink or (lambda: MemorySink(self.broker, "", TRANSACTIONAL_ID))
        return Updates(begin, lambda: MemoryBroadcast(self.broker, MODEL_UPDATES.name), self.ids, self.clock, writer)


def update(number: int) -> ModelUpdate:
    return ModelUpdate(model=MODEL, version=str(number), uri="", digest=f"d{number}", reason="", actor="me", decided_ms=number)


def test_who_wrote_between_the_reading_and_the_writing_of_another_is_seen_by_it() -> None:
    topic = Topic()
    first, second = topic.log("first"), topic.log("second")
    asked: list[int] = []

    def slowly(written: list[ModelUpdate]) -> ModelUpdate:
        asked.append(len(written))
        if len(asked) == 1:  # the second comes and goes while the first decides
            second.change(lambda seen: update(len(seen)))
        return update(len(written))

    first.change(slowly)
    assert asked == [0, 1]
    assert [one.version for one in first.all()] == ["0", "1"]


def test_who_finds_nothing_left_to_do_writes_nothing() -> None:
    topic = Topic()
    topic.log().change(lambda written: update(0))
    assert topic.log().change(lambda written: None if written else update(1)) is None
    assert len(topic.log().all()) == 1


def test_the_first_promotion_of_a_model_of_which_none_is_shipped_needs_no_earlier_version(tmp_path: Path) -> None:
    topic = Topic()
    first = Source(ModelFolder(tmp_path, MODERATION_OCR, "7", "d" * 64, {}, {}), "package:ppocr-v4")
    made = announce(MODERATION_OCR, first, "to read pictures", topic.log(), topic.clock, "ada")
    assert (made.model, made.version, made.uri, made.digest) == (MODERATION_OCR, "7", "package:ppocr-v4", "d" * 64)
    with pytest.raises(ModelRefused, match=f"no version of {MODERATION_OCR} is shipped: .*{MODERATION_OCR}=off"):
        roll_back(MODERATION_OCR, "no", topic.log(), topic.clock, "ada")
    with pytest.raises(ModelRefused, match="moderation-orc"):
        announce("moderation-orc", first, "a typing error", topic.log(), topic.clock, "ada")


class Mute(MemorySink):
    """A commit that goes through, and whose answer is lost once."""

    answered = False

    def commit_records(self, limit_s: float) -> None:
        super().commit_records(limit_s)
        if not Mute.answered:
            Mute.answered = True
            raise TransactionAborted("no answer", indefinite=True)


def test_a_commit_whose_answer_was_lost_is_not_made_twice() -> None:
    topic = Topic()
    made = topic.log(sink=lambda: Mute(topic.broker, "", TRANSACTIONAL_ID)).change(lambda written: update(len(written)))
    assert made == update(0)
    assert [one.version for one in topic.log().all()] == ["0"]


class Broken(MemorySink):
    def produce(self, out: OutRecords) -> None:
        raise TransactionAborted("the disk is full")


def test_a_broker_that_takes_nothing_is_said_at_last() -> None:
    topic = Topic()
    asked: list[int] = []

    def decide(written: list[ModelUpdate]) -> ModelUpdate:
        asked.append(1)
        return update(0)

    with pytest.raises(BrokerUnavailable, match="disk is full"):
        topic.log(sink=lambda: Broken(topic.broker, "", TRANSACTIONAL_ID)).change(decide)
    assert len(asked) == TRIES
    assert topic.log().all() == []


def test_the_commands_write_what_kind_it_is_and_leave_what_people_set() -> None:
    topic, source = Topic(), shipped(MODEL)
    other = dataclasses.replace(source, folder=dataclasses.replace(source.folder, version="9", digest="d9"))
    log, clock = topic.log(), topic.clock
    with pytest.raises(BadSettings, match="cannot stand beside itself"):
        challenge(MODEL, source, "shadow", 0.1, "why", log, clock)
    assert challenge(MODEL, other, "shadow", 0.1, "why", log, clock).kind == UpdateKind.CHALLENGE
    third = dataclasses.replace(other, folder=dataclasses.replace(source.folder, version="8", digest="d8"))
    made = announce(MODEL, third, "better", log, clock)
    assert (made.kind, [one.digest for one in made.challengers]) == (UpdateKind.PROMOTION, ["d9"])
    back = roll_back(MODEL, "no", log, clock)
    assert (back.kind, back.digest, [one.digest for one in back.challengers]) == (
        UpdateKind.ROLLBACK,
        source.folder.digest,
        ["d9"],
    )
    assert announce(MODEL, other, "it is good", log, clock).challengers == (), "what answers is not beside itself"
    with pytest.raises(BadSettings, match="no canary to end"):
        challenge(MODEL, None, "canary", 0.1, "why", log, clock)
