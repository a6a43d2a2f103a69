"""Events of training runs on `training-events-v1` that are written outside a loop's transaction, each kind at most once per
run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.codec import SchemaIds
from schemas.errors import BrokerUnavailable, TransactionAborted
from schemas.generated import TrainingEvent, TrainingRequest
from schemas.topics import TRAINING_EVENTS, TRAINING_REQUESTS
from schemas.vocabulary import RunEvent
from streams.broker import Broadcast, Sink
from streams.clock import Clock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import records
from streams.kafka.sink import KafkaSink
from streams.readable import Followed, Readable
from streams.record_writer import RecordWriter

FLUSH_LIMIT_S = 20.0
READ_LIMIT_S = 60.0
_RUN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
REPEATED = (RunEvent.PROGRESS, RunEvent.PASSED_OVER)  # each other kind is written at most once per run
ENDS = {RunEvent.FAILED, RunEvent.REFUSED, RunEvent.PROMOTED, RunEvent.ROLLED_BACK}
OVER = {*ENDS, RunEvent.JUDGED}  # the run itself is done: the rollout continues with a judged candidate


def requests(address: KafkaAddress, ids: SchemaIds) -> dict[str, TrainingRequest]:
    """The first request of each run key, oldest first."""
    by_run_key: dict[str, TrainingRequest] = {}
    for record in records(address, TRAINING_REQUESTS, ids):
        if is_run_key(record["run_key"]):
            by_run_key.setdefault(record["run_key"], TrainingRequest.from_dict(record))
    return by_run_key


def is_run_key(text: str) -> bool:
    """Whether the text is safe as a run key, which also names the run's folder: anybody who may write a request chooses it."""
    return _RUN_KEY.fullmatch(text) is not None


class Journal:
    """Writes events of runs, at least once. A kind that is on the topic already is not written again for the same run.

    The topic is read to its end once, at the start, and followed from there; so of two journals that write the same kind of one
    run at the same moment, both may write it. `runs/run_process.py` lets one process at a time write as a run."""

    def __init__(self, events: Broadcast, sink: Sink, ids: SchemaIds, clock: Clock, writer: str) -> None:
        """Raises BrokerUnavailable."""
        self._followed = Followed(events, Readable(TRAINING_EVENTS, ids, TrainingEvent.from_dict))
        self._sink, self._clock = sink, clock
        self._records = RecordWriter(TRAINING_EVENTS, ids, writer)
        self._kinds: dict[str, set[str]] = {}
        self._note(self._followed.read_to_end(READ_LIMIT_S))

    @classmethod
    def on_kafka(cls, address: KafkaAddress, ids: SchemaIds, clock: Clock, writer: str) -> Journal:
        """Raises BrokerUnavailable."""
        return cls(KafkaBroadcast(address, TRAINING_EVENTS.name, clock), KafkaSink(address, None), ids, clock, writer)

    def kinds(self, run_key: str) -> set[str]:
        """The kinds of events that were written of a run. Raises BrokerUnavailable."""
        while events := self._followed.poll():  # a poll returns a part of what arrived since the last call
            self._note(events)
        return set(self._kinds.get(run_key, ()))

    def write(self, run_key: str, model: str, kind: str, words: str, facts: Mapping[str, str] | None = None) -> None:
        """Returns when the broker has the event. Raises BrokerUnavailable, and TransactionAborted if it refuses the event."""
        if kind not in REPEATED and kind in self.kinds(run_key):
            return
        event = TrainingEvent(
            run_key=run_key, model=model, kind=kind, words=words, facts=dict(facts or {}), at_ms=self._clock.now_ms()
        )
        try:
            self._sink.produce(self._records.of(event, model, f"{run_key}/{kind}"))
            self._sink.flush(FLUSH_LIMIT_S)
        except TransactionAborted as error:
            if error.unwritable:
                raise
            raise BrokerUnavailable(f"the event {kind} of run {run_key} was not written: {error}") from error
        self._note([event])

    def _note(self, events: Iterable[TrainingEvent]) -> None:
        for event in events:
            self._kinds.setdefault(event.run_key, set()).add(event.kind)

    def close(self) -> None:
        self._followed.close()
        self._sink.close()


@dataclass(frozen=True)
class RunJournal:
    """A journal of one run."""

    journal: Journal
    run_key: str
    model: str

    def kinds(self) -> set[str]:
        return self.journal.kinds(self.run_key)

    def write(self, kind: str, words: str, facts: Mapping[str, str] | None = None) -> None:
        """See `Journal.write`."""
        self.journal.write(self.run_key, self.model, kind, words, facts)
