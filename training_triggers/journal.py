"""What is written down of a run outside a loop: events on `training-events-v1`, each kind at most once a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from schemas.codec import SchemaIds
from schemas.generated import TrainingEvent, TrainingRequest
from schemas.topic_kinds import Record, Topic
from schemas.topics import TRAINING_EVENTS, TRAINING_REQUESTS
from schemas.vocabulary import RunEvent
from streams.clock import Clock
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import records
from streams.kafka.sink import KafkaSink
from streams.record_writer import RecordWriter

FLUSH_LIMIT_S = 20.0
_RUN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
REPEATED = (RunEvent.PROGRESS, RunEvent.PASSED_OVER)  # all other kinds come once
ENDS = {RunEvent.FAILED, RunEvent.REFUSED, RunEvent.PROMOTED, RunEvent.ROLLED_BACK}
OVER = {*ENDS, RunEvent.JUDGED}  # the run's own part is done: the rollout takes a judged candidate


def requests(address: KafkaAddress, ids: SchemaIds) -> dict[str, TrainingRequest]:
    """By run key, in the order they were asked; a repeat is the same request."""
    found: dict[str, TrainingRequest] = {}
    for record in records(address, TRAINING_REQUESTS, ids):
        if is_run_key(record["run_key"]):
            found.setdefault(record["run_key"], TrainingRequest.from_dict(record))
    return found


def is_run_key(text: str) -> bool:
    """Whether a run may have this key, which also names its folder: whoever can write a request chooses it."""
    return _RUN_KEY.fullmatch(text) is not None


class Journal:
    """Of one run. Written at least once: what is on the topic already is not written again."""

    def __init__(self, address: KafkaAddress, ids: SchemaIds, clock: Clock, run_key: str, model: str, writer: str) -> None:
        self._address, self._ids, self._clock = address, ids, clock
        self._run_key, self._model = run_key, model
        self._events = RecordWriter(TRAINING_EVENTS, ids, writer)
        self._sink = KafkaSink(address, None)

    def events(self) -> dict[str, TrainingEvent]:
        """The last of each kind that is written."""
        mine = [one for one in records(self._address, TRAINING_EVENTS, self._ids) if one["run_key"] == self._run_key]
        return {one["kind"]: TrainingEvent.from_dict(one) for one in mine}

    def write(self, kind: str, words: str, facts: Mapping[str, str] | None = None) -> None:
        """Returns when the broker has it. Raises BrokerUnavailable."""
        if kind not in REPEATED and kind in self.events():
            return
        event = TrainingEvent(
            run_key=self._run_key, model=self._model, kind=kind, words=words, facts=dict(facts or {}),
            at_ms=self._clock.now_ms(),
        )  # fmt: skip
        self._sink.produce(self._events.of(event, self._model, f"{self._run_key}/{kind}"))
        self._sink.flush(FLUSH_LIMIT_S)

    def close(self) -> None:
        self._sink.close()


def reader(address: KafkaAddress, ids: SchemaIds, topic: Topic[Record], kind: Any) -> Callable[[], Iterable[Any]]:
    """All committed records of a topic at each call, oldest first."""
    return lambda: records(address, topic, ids, kind.from_dict)
