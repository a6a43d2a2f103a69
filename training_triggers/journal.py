"""What is written down of a run outside a loop: events on `training-events-v1`, each kind at most once a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from schemas.codec import Encoder, SchemaIds
from schemas.generated import TrainingEvent, TrainingRequest
from schemas.topics import TRAINING_EVENTS, TRAINING_REQUESTS
from streams import headers as h
from streams.clock import Clock
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import records
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords
from streams.schema_registry import Registry

FLUSH_LIMIT_S = 20.0
_RUN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
REPEATED = ("progress", "passed_over")  # all other kinds come once
ENDS = {"failed", "refused", "promoted", "rolled_back"}
OVER = {*ENDS, "judged"}  # the run's own part is done: a judged candidate is the rollout's


def requests(address: KafkaAddress, ids: SchemaIds) -> dict[str, TrainingRequest]:
    """By run key, in the order they were asked; a repeat is the same request."""
    found: dict[str, TrainingRequest] = {}
    for record in records(address, TRAINING_REQUESTS.name, ids):
        if is_run_key(record["run_key"]):
            found.setdefault(record["run_key"], TrainingRequest.from_dict(record))
    return found


def is_run_key(text: str) -> bool:
    """Whether a run may have this key, which also names its folder: whoever can write a request chooses it."""
    return _RUN_KEY.fullmatch(text) is not None


class Journal:
    """Of one run. Written at least once: what is on the topic already is not written again."""

    def __init__(self, address: KafkaAddress, ids: SchemaIds, clock: Clock, run_key: str, model: str, writer: str) -> None:
        self._address, self._ids, self._clock, self._writer = address, ids, clock, writer
        self._run_key, self._model = run_key, model
        self._encoder = Encoder.of(TRAINING_EVENTS, ids)
        self._sink = KafkaSink(address, None)

    def events(self) -> dict[str, TrainingEvent]:
        """The last of each kind that is written."""
        mine = [one for one in records(self._address, TRAINING_EVENTS.name, self._ids) if one["run_key"] == self._run_key]
        return {one["kind"]: TrainingEvent.from_dict(one) for one in mine}

    def write(self, kind: str, words: str, facts: Mapping[str, str] | None = None) -> None:
        """Returns when the broker has it. Raises BrokerUnavailable."""
        if kind not in REPEATED and kind in self.events():
            return
        event = TrainingEvent(
            run_key=self._run_key, model=self._model, kind=kind, words=words, facts=dict(facts or {}),
            at_ms=self._clock.now_ms(),
        )  # fmt: skip
        headers = h.cloud_event([f"{self._run_key}/{kind}"], event.RECORD, self._writer)
        self._sink.produce(OutRecords(TRAINING_EVENTS.name, [self._model.encode()], [self._encoder.encode_one(event)], headers))
        self._sink.flush(FLUSH_LIMIT_S)

    def close(self) -> None:
        self._sink.close()


def reader(address: KafkaAddress, ids: Registry, topic: str, kind: Any) -> Callable[[], Iterable[Any]]:
    """All committed records of a topic at each call, oldest first."""
    return lambda: records(address, topic, ids, kind.from_dict)
