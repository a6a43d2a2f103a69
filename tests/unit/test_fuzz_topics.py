"""Every topic with a reader, and whatever a stranger may put on it: each record ends once, as the sender's fault where it is one, and
nothing that reads it ends with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from feature_jobs.feature_loops import RECENT_EVENTS
from feature_jobs.offline import archive as events
from feature_jobs.online.attributes import attributes_of
from feature_jobs.online.feature_sink import TILES, FeatureSink, StateKind
from inference_workers.vectors.index_builder import IndexBuilder
from inference_workers.vectors.result_vectors import SCHEMA as VECTOR_SCHEMA
from inference_workers.vectors.result_vectors import ResultVectors
from processors.features.online_store import MemoryStore
from processors.features.seen import Seen
from processors.features.validate import Validation
from processors.moderation.policy import Rules as PolicyRules
from processors.moderation.policy import action_of, action_of_review
from processors.moderation.timely_labels import is_timely
from processors.recommendation.attribution_step import AttributionStep
from schemas import avro, generated
from schemas.declared.declarations import Declaration
from schemas.declared.task_kinds import TaskKind
from schemas.errors import Stop
from schemas.features import ITEM, RECENT, USER, View
from schemas.topic_kinds import Consumption
from schemas.topics import (
    ACCURACY,
    ARCHIVE,
    ATTRIBUTION,
    CATALOGUE,
    DECIDE,
    DECISIONS,
    DRIFT,
    DRIFT_STATE,
    ITEM_SINK,
    LAUNCH,
    MODEL_UPDATES,
    POLICY,
    RECENT_SINK,
    ROLLOUT,
    SWAP_ACKS,
    TIMELY,
    TRAINING_EVENTS,
    USER_SINK,
    VALIDATE,
)
from streams import headers as h
from streams.archived.parquet_step import ParquetStep
from streams.clock import ManualClock
from streams.loop.batching import Batcher, BatchLimits, CostLine
from streams.loop.limits import LoopLimits
from streams.loop.loop import Loop
from streams.loop.processor import Processor
from streams.loop.step import BatchStep, Step
from streams.memory.cluster import MemoryBroker
from streams.memory.endpoints import MemoryBroadcast, MemorySink, MemorySource
from streams.metrics import Metrics
from streams.process.record_processor import RecordProcessor
from streams.readable import Readable
from streams.rows import OutRecords
from streams.schema_registry import MemoryRegistry
from tests.support import hostile
from tests.support.attribution_in_memory import MemoryAttributionTopics
from tests.support.background import AtOnce
from training_triggers.drift.decide import Decide, RetrainPolicy
from training_triggers.drift.detect import DETECTORS, Detector
from training_triggers.drift.version_watch import WatchRules
from training_triggers.recorded.evidence import Evidence
from training_triggers.rollout.controller import Rollout
from training_triggers.rollout.decisions import RolloutPolicy
from training_triggers.runs.launch import Launch

SEED = 15
SENTENCES = Declaration(name="sentences", kind=TaskKind.EMBEDDING, model="hf:x", options={"sink": "faiss"})
TOPICS = (*CATALOGUE, SENTENCES.sink_consumption().topic)
RECORDS = 250


@dataclass
class CatalogueInMemory:
    folder: Path

    def __post_init__(self) -> None:
        self.clock, self.metrics, self.ids = ManualClock(), Metrics(), MemoryRegistry()
        self.broker = MemoryBroker(self.clock)
        self.schema_ids: dict[str, dict[str, int]] = {}  # by topic, then by record
        for topic in TOPICS:
            self.broker.create(topic.name, topic.partitions)
            if topic.record is not None:
                name = topic.record.RECORD
                self.schema_ids[topic.name] = {name: self.ids.register(topic.subject, avro.schema(name))}
        for topic in TOPICS:
            for other in TOPICS:
                if topic.record is not None and other.record is not None:
                    name = other.record.RECORD
                    self.schema_ids[topic.name].setdefault(name, self.schema_ids[other.name][name])

    def broadcast(self, name: str) -> MemoryBroadcast:
        return MemoryBroadcast(self.broker, name)

    def step(self, processor: Processor) -> Step:
        return BatchStep(processor, self.clock, CostLine())


def _records(consumption: Consumption, function: Callable[..., Any]) -> Callable[[CatalogueInMemory], Step]:
    key = "request_id" if consumption is TIMELY else "content_id"
    return lambda world: world.step(RecordProcessor(consumption, function, key, world.ids, "w"))


def _validate(world: CatalogueInMemory) -> Step:
    made = Validation(world.ids, "w", world.metrics, Seen(900_000), lambda positions, window_ms: iter(()))
    return world.step(made)


def _sink(view: View, kind: StateKind = TILES) -> Callable[[CatalogueInMemory], Step]:
    def build(world: CatalogueInMemory) -> Step:
        attributes = attributes_of(view, world.broadcast(view.attributes.name), world.ids) if view.attributes else None
        made = FeatureSink(
            view, world.ids, MemoryStore(), attributes, lambda ends: iter(()), world.clock, world.metrics, "", kind
        )
        return world.step(made)

    return build


def _attribution(world: CatalogueInMemory) -> Step:
    return AttributionStep(world.ids, "w", world.clock, MemoryAttributionTopics(world.broker), window_ms=1_000)


def _archive(world: CatalogueInMemory) -> Step:
    return events.archive(world.folder, world.ids, world.clock, age_s=1, rows=50)


def _vectors(world: CatalogueInMemory) -> Step:
    reader = ResultVectors(SENTENCES.sink_consumption().topic, world.ids, world.metrics)
    index = IndexBuilder(world.folder, world.clock, 1.0, AtOnce())
    return ParquetStep(world.folder, VECTOR_SCHEMA, reader.read, world.clock, age_s=1, rows=50, beside=index)


def _decide(world: CatalogueInMemory) -> Step:
    made = Decide(RetrainPolicy(), world.ids, "w", lambda: world.broadcast(TRAINING_EVENTS.name))
    return world.step(made)


class Child:
    def poll(self) -> int | None:
        return 1

    def stop(self) -> None: ...


def _launch(world: CatalogueInMemory) -> Step:
    def start(run_key: str) -> Child:
        assert (world.folder / run_key).parent == world.folder
        return Child()

    made = Launch(world.ids, "w", lambda: world.broadcast(TRAINING_EVENTS.name), start, lambda *_: None, world.clock)
    return world.step(made)


class Reading:
    """The rollout's other topics."""

    def __init__(self, world: CatalogueInMemory) -> None:
        self._updates = world.broadcast(MODEL_UPDATES.name)
        self._acks = world.broadcast(SWAP_ACKS.name)
        self._read = Readable(MODEL_UPDATES, world.ids, generated.ModelUpdate.from_dict)
        self._read_acks = Readable(SWAP_ACKS, world.ids, generated.SwapAck.from_dict)

    def updates(self) -> list[generated.ModelUpdate]:
        return self._read.of(self._updates.poll())

    def refusals(self) -> list[generated.SwapAck]:
        return self._read_acks.of(self._acks.poll())

    def close_unused(self) -> None: ...

    def evidence(self, from_ms: int) -> Evidence:
        return Evidence()

    def announce(self, update: generated.ModelUpdate, after: generated.ModelUpdate | None) -> bool:
        return True

    def tell(self, run_key: str, model: str, kind: str, words: str, facts: Mapping[str, str]) -> None: ...

    def close(self) -> None: ...


def _rollout(world: CatalogueInMemory) -> Step:
    made = Rollout(RolloutPolicy(), world.ids, list, lambda: Reading(world), world.clock)
    return world.step(made)


def _detector(name: str) -> Callable[[CatalogueInMemory], Step]:
    """Windows so small that they are compared again and again."""

    def build(world: CatalogueInMemory) -> Step:
        def states() -> list[generated.DriftState]:
            return Readable(DRIFT_STATE, world.ids, generated.DriftState.from_dict).of(world.broadcast(DRIFT_STATE.name).poll())

        consumption, extract, triggers = DETECTORS[name]
        made = Detector(
            consumption,
            extract,
            triggers,
            WatchRules(window_n=8),
            world.ids,
            "w",
            states,
            lambda: world.broadcast(MODEL_UPDATES.name),
        )
        return world.step(made)

    return build


POLICY_RULES = PolicyRules.parse("default=0.95", review_unjudged=True)
LOOPS: dict[str, tuple[Consumption, Callable[[CatalogueInMemory], Step]]] = {
    "policy": (POLICY, _records(POLICY, lambda verdict, key, at_ms: action_of(verdict, key, at_ms, POLICY_RULES))),
    "decisions": (DECISIONS, _records(DECISIONS, lambda label, key, at_ms: action_of_review(label, at_ms))),
    "timely": (TIMELY, _records(TIMELY, lambda label, key, at_ms: dict(label) if is_timely(label, at_ms) else None)),
    "validate": (VALIDATE, _validate),
    "user-sink": (USER_SINK, _sink(USER)),
    "item-sink": (ITEM_SINK, _sink(ITEM)),
    "recent-sink": (RECENT_SINK, _sink(RECENT, RECENT_EVENTS)),
    "archive": (ARCHIVE, _archive),
    "vectors": (SENTENCES.sink_consumption(), _vectors),
    "attribution": (ATTRIBUTION, _attribution),
    "drift": (DRIFT, _detector("drift")),
    "accuracy": (ACCURACY, _detector("accuracy")),
    "decide": (DECIDE, _decide),
    "launch": (LAUNCH, _launch),
    "rollout": (ROLLOUT, _rollout),
}


def _fill(world: CatalogueInMemory, name: str, random: Random, n: int = RECORDS, onto: str = "") -> None:
    topic = next(topic for topic in TOPICS if topic.name == name)
    for _ in range(n):
        one = hostile.sent(topic, world.schema_ids[name], random)
        out = OutRecords(onto or name, [one.key], [one.value], [one.headers], [random.randrange(topic.partitions)])  # type: ignore[list-item]
        world.broker.append(out, None)


@pytest.mark.parametrize("name", LOOPS)
def test_whatever_lies_on_its_topic_a_loop_ends_each_record_once_and_none_of_them_ends_it(name: str, tmp_path: Path) -> None:
    consumption, build = LOOPS[name]
    world, random = CatalogueInMemory(tmp_path), Random(f"{SEED} {name}")
    for further in (consumption.dead_letter_topic, *consumption.retry_topics()):
        world.broker.create(further, consumption.topic.partitions)
    for beside in (MODEL_UPDATES.name, SWAP_ACKS.name, "user-profiles-v1", "items-v1", TRAINING_EVENTS.name, DRIFT_STATE.name):
        _fill(world, beside, random, 60)
    step = build(world)
    loop = Loop(
        consumption=consumption,
        source=MemorySource(world.broker, consumption.group),
        sink=MemorySink(world.broker, consumption.group, "id"),
        step=step,
        batcher=Batcher(BatchLimits(max_rows=50), CostLine()),
        clock=world.clock,
        limits=LoopLimits(),
        worker="w",
        metrics=world.metrics,
        background=AtOnce(),
    )
    loop.source.subscribe((consumption.topic.name, *consumption.retry_topics()), loop.assignment)
    _fill(world, consumption.topic.name, random)
    for retry in consumption.retry_topics():
        _fill(world, consumption.topic.name, random, 60, onto=retry)
    for _ in range(60):
        loop.run_once()
        world.clock.sleep(0.5)
    group = world.broker.groups[consumption.group]
    for place in loop.source.assignment():
        assert group.committed[place].offset >= max(
            (offset for at, offset, _ in world.broker.records(place[0]) if at == place), default=-1
        )
    codes = Counter(
        dict(letter.headers)[h.ERROR_CODE].decode() for _, _, letter in world.broker.records(consumption.dead_letter_topic)
    )
    assert "poison" not in codes, codes
    assert not [note for note in step.report().notes if "Error" in note]
    assert codes["undecodable"] > 20


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic.record is not None], ids=lambda topic: topic.name)
def test_whatever_lies_on_it_a_topic_is_read_record_by_record(topic: Any, tmp_path: Path) -> None:
    world, random = CatalogueInMemory(tmp_path), Random(f"{SEED} {topic.name}")
    _fill(world, topic.name, random)
    readable = Readable(topic, world.ids, topic.record.from_dict, world.metrics)
    found = readable.of(world.broadcast(topic.name).poll())
    assert len(found) > RECORDS // 3 and len(found) + readable.passed_over == RECORDS


def test_stop_is_no_record_s_end(tmp_path: Path) -> None:
    world = CatalogueInMemory(tmp_path)

    def stop(record: dict[str, Any]) -> None:
        raise Stop("the process is to end")

    _fill(world, MODEL_UPDATES.name, Random(SEED), 30)
    with pytest.raises(Stop):
        Readable(MODEL_UPDATES, world.ids, stop).of(world.broadcast(MODEL_UPDATES.name).poll())
