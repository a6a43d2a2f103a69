"""A task whose versions tests can announce, break and delay, with its updates on an in-memory topic."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.served.served_models import ServedModels
from inference_workers.task import Prediction, Prepared, Use, Versions
from inference_workers.worker import TaskProcessor
from processors.features.enrich import Enrich
from schemas import avro
from schemas.catalogue import consumption
from schemas.codec import Encoder, read_any
from schemas.columns import Columns
from schemas.errors import ModelRefused, RetryLater
from schemas.generated import Challenger, ModelUpdate, SwapAck, TranslationRequest
from schemas.topics import MODEL_UPDATES, PREDICTION_LOG, SWAP_ACKS, TRANSLATION_RESULTS
from streams.claim_checks import ClaimChecks
from streams.clock import ManualClock
from streams.loop.outcome import Emit, Outcome
from streams.memory.cluster import MemoryBroker
from streams.memory.endpoints import MemoryBroadcast, MemorySink
from streams.metrics import Metrics
from streams.rows import OutRecords, Rows
from streams.schema_registry import MemoryRegistry
from tests.support.rows import rows_of

MODEL = "m"


def digest(version: str) -> str:
    return version.encode().hex().ljust(64, "0")


@dataclass
class Backend:
    version: str
    closed: bool = False

    def close(self) -> None:
        self.closed = True


class Registry(MemoryRegistry):
    """Does not answer while it is silent."""

    silent = False

    def schema_of(self, schema_id: int) -> dict[str, Any]:
        if self.silent:
            raise RetryLater("the registry does not answer")
        return super().schema_of(schema_id)


class ModelVersions:
    """One model `m` that ships as version 1. broken, away: versions that cannot be loaded, permanently or for now."""

    name = "fake"
    optional_models: Sequence[str] = ()

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models = {MODEL: "file:/1"}
        self.broken: set[str] = set()
        self.away: set[str] = set()
        self.held_back: dict[str, Event] = {}
        self.backends: list[Backend] = []
        self.clock, self.ids, self.metrics = ManualClock(), Registry(), Metrics()
        for topic, record in ((MODEL_UPDATES, "model-update"), (SWAP_ACKS, "swap-ack")):
            self.ids.register(topic.subject, avro.schema(record))
        self.broker = MemoryBroker(self.clock)
        self.broker.create(MODEL_UPDATES.name, 1)
        self.sink = MemorySink(self.broker, "", None)
        self.acks: list[SwapAck] = []
        monkeypatch.setattr("inference_workers.task.open_for", self.opened)

    def opened(self, model: str, uri: str, wanted: str | None = None) -> ModelFolder:
        version = uri.removeprefix("file:/")
        if version in self.held_back:
            assert self.held_back[version].wait(30)
        if version in self.away:
            raise RetryLater(f"{uri}: the store does not answer")
        if version in self.broken:
            raise ModelRefused(f"{uri} was cut")
        return ModelFolder(Path(), MODEL, version.split("-")[0], wanted or digest(version), {}, {})

    def load(self, folder: ModelFolder, model: str) -> Backend:
        self.backends.append(Backend(folder.version))
        return self.backends[-1]

    def worker(self, **sources: str) -> ServedModels:
        task: Any = self
        topic = MemoryBroadcast(self.broker, MODEL_UPDATES.name)
        return ServedModels(task, topic, self.ids, self.clock, "w", self.metrics, self.keep, sources)

    def keep(self, records: OutRecords) -> None:
        self.acks += [SwapAck.from_dict(read_any(value, self.ids)) for value in records.values]

    def write(self, value: bytes | None) -> None:
        self.sink.produce(OutRecords(MODEL_UPDATES.name, [MODEL.encode()], [value], [[]]))

    def announce(self, version: str, /, *challengers: Challenger, **fields: Any) -> None:
        update = ModelUpdate(
            model=MODEL,
            version=version.split("-")[0],
            uri=f"file:/{version}",
            digest=digest(version),
            reason="r",
            actor="a",
            decided_ms=0,
            challengers=challengers,
        )
        update = replace(update, **fields)
        self.write(Encoder.of(MODEL_UPDATES, self.ids).encode_one(update))

    def follow(self, models: ServedModels, until: Callable[[], object]) -> None:
        """Follows the updates as a loop does, for at most an hour by the clock of the test."""
        deadline_s = time.monotonic() + 60
        while not until():
            assert time.monotonic() < deadline_s, models.report().notes
            self.clock.sleep(1.0)
            models.follow()
            time.sleep(0.001)

    def settle(self, models: ServedModels) -> None:
        for _ in range(5):
            models.catch_up(1e9)
            self.clock.sleep(1.0)

    def still_loads(self, models: ServedModels) -> None:
        for _ in range(5):
            self.clock.sleep(1.0)
            models.follow()
            time.sleep(0.005)


def beside(arm: str, version: str, share: float = 1.0, sha256: str | None = None) -> Challenger:
    return Challenger(
        arm=arm,
        version=version.split("-")[0],
        uri=f"file:/{version}",
        digest=digest(version) if sha256 is None else sha256,
        share=share,
        salt="s",
    )


def rows(low: int, high: int, epoch: int = 0, partition: int = 0) -> Rows:
    return rows_of([(("t", partition), offset) for offset in range(low, high)], epoch, priorities=[0] * (high - low))


def answered(world: ModelVersions, models: ServedModels, asked: Rows) -> list[SwapAck]:
    """The announcements of one batch."""
    with models.batch() as batch:
        said = [
            record
            for which, versions in batch.arms(asked.keys, asked.request_ids)
            for record in models.announcements(batch, asked if which is None else asked.take(which), versions)
        ]
    return [SwapAck.from_dict(read_any(value, world.ids)) for record in said for value in record.values]


class Translator(ModelVersions):
    """As a task: answers each text with its version. failing: by version, the error that `predict` raises."""

    consumption, results, needs = consumption("translation"), TRANSLATION_RESULTS, ()

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        self.failing: dict[str, Exception] = {}
        self.embedding: Any = None
        self.odd = 0.0
        for topic, record in (
            (self.consumption.topic, "translation-request"),
            (self.results, "translation-result"),
            (PREDICTION_LOG, "prediction-log"),
        ):
            self.ids.register(topic.subject, avro.schema(record))

    def prepare(self, columns: Columns, versions: Versions, media: Any) -> Prepared:
        return Prepared(list(columns.text("text")), {})

    def predict(self, inputs: list[str], versions: Versions) -> Prediction:
        version = versions[MODEL]
        if version.backend.version in self.failing:
            raise self.failing[version.backend.version]
        embedding = self.embedding if version.arm == "shadow" else None
        use = Use(version, np.full((len(inputs), 1), self.odd, "<f4"), 1.0, embedding=embedding)
        return Prediction({"text": [f"by {version.backend.version}" for _ in inputs]}, [use])

    def step(self, models: ServedModels) -> TaskProcessor:
        task: Any = self
        enrich = Enrich((), None, self.clock, self.metrics)
        return TaskProcessor(task, models, MediaReader(ClaimChecks(())), enrich, self.ids, self.clock, "w", self.metrics)

    def asked(self, n: int) -> Rows:
        value = Encoder.of(self.consumption.topic, self.ids).encode_one(
            TranslationRequest(text="hello", source="en", target="fr")
        )
        return replace(rows(0, n), values=[value] * n)

    def records(self, outcomes: Sequence[Outcome], topic: str) -> list[dict[str, Any]]:
        return [
            read_any(value, self.ids)
            for outcome in outcomes
            if isinstance(outcome, Emit)
            for out in outcome.records
            if out.topic == topic
            for value in out.values
        ]
