"""What the small topics tell, kept as it comes: statuses, dead letters, model updates, swaps, drift, training, audit.

`Story.take` is fed every record of `TOPICS` and of the dead-letter topics, from the first one kept; the rest reads what it holds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from infra import audit
from infra.audit import Position
from infra.monitor.letters import BY_TOPIC, Letter, letter
from infra.monitor.plain import finite
from schemas import avro
from schemas.codec import HEAD_BYTES, SchemaIds, schema_id_of
from schemas.decoding import decode_one
from schemas.errors import RetryLater
from schemas.topics import (
    AUDIT,
    DRIFT_EVENTS,
    DRIFT_STATE,
    MODEL_UPDATES,
    SWAP_ACKS,
    TRAINING_EVENTS,
    TRAINING_REQUESTS,
    WORKER_STATUS,
)
from streams.rows import Polled

_RECORDS: dict[str, str] = {
    topic.name: topic.record_name
    for topic in (
        WORKER_STATUS, MODEL_UPDATES, SWAP_ACKS, DRIFT_STATE, DRIFT_EVENTS, TRAINING_REQUESTS, TRAINING_EVENTS, AUDIT,
    )
}  # fmt: skip
TOPICS = tuple(_RECORDS)
MOST_LETTERS = 20_000
MOST_RECORDS = 5_000  # of each other topic
MOST_NAMES = 300  # of processes, and of watches: anybody who writes to the topics may make up more
SILENT_MS = 10_000  # a process that says nothing for so long is not running


@dataclass
class Mark:
    """Something that happened at a moment, drawn on charts. kind: rebalance, restart, swap, refused or redrive."""

    at_ms: int
    kind: str
    who: str
    words: str


@dataclass
class Story:
    """records: by topic, oldest first, each with its `at_ms`. letters: the newest MOST_LETTERS, by position. not_decoded: records that
    were not what their topic holds."""

    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    records: dict[str, deque[dict[str, Any]]] = field(default_factory=dict)
    letters: dict[Position, Letter] = field(default_factory=dict)
    letters_dropped: int = 0
    redriven: dict[Position, str] = field(default_factory=dict)
    states: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    acts: dict[str, dict[str, Any]] = field(default_factory=dict)  # by id of their audit lines, oldest first
    marks: deque[Mark] = field(default_factory=lambda: deque(maxlen=MOST_RECORDS))
    not_decoded: int = 0

    def of(self, topic: str) -> list[dict[str, Any]]:
        return list(self.acts.values()) if topic == AUDIT.name else list(self.records.get(topic, ()))

    def take(self, polled: Polled, ids: SchemaIds) -> None:
        """A record that is not what its topic holds is counted and passed over: the message browser says why. Raises RetryLater where the
        registry did not answer: what was not understood for that reason must be read again."""
        for i, (topic, _) in enumerate(polled.places):
            try:
                if topic in BY_TOPIC:
                    self._letter(letter(polled, i))
                else:
                    self._record(topic, _decoded(polled.values[i], topic, ids), polled.timestamps_ms[i])
            except RetryLater:
                raise
            except Exception:  # anybody may write to a topic: whatever is wrong with one record must not lose those behind it
                self.not_decoded += 1

    def _letter(self, found: Letter) -> None:
        self.letters[found.position] = found
        if len(self.letters) > MOST_LETTERS:
            self.letters.pop(next(iter(self.letters)))
            self.letters_dropped += 1

    def _record(self, topic: str, record: dict[str, Any], at_ms: int) -> None:
        if topic == WORKER_STATUS.name:
            self._status(record)
            return
        if topic == DRIFT_STATE.name:
            _keep(self.states, (record["detector"], record["model"], record["version"]), {"at_ms": at_ms} | record)
            return
        if topic == AUDIT.name:
            self.act({"at_ms": at_ms} | record)
            return
        self.records.setdefault(topic, deque(maxlen=MOST_RECORDS)).append({"at_ms": at_ms} | record)
        if topic == SWAP_ACKS.name:
            words = f"{record['model']} {record['version']}" + (f": {record['reason']}" if record["reason"] else "")
            self._mark(Mark(at_ms, "swap" if record["accepted"] else "refused", record["worker"], words))

    def act(self, record: dict[str, Any]) -> None:
        """A line of audit: the one before an act and the one behind it, which have one id, are one entry with the later outcome."""
        known = self.acts.get(record["audit_id"])
        if known is None:
            _keep(self.acts, record["audit_id"], record | {"begun_ms": record["at_ms"]}, MOST_RECORDS)
        elif known["outcome"] == audit.BEGUN:
            known.update(record)
        positions = audit.redriven(record)
        self.redriven |= dict.fromkeys(positions, f"by {record['actor']}")
        if positions and known is None:
            self.marks.append(Mark(record["at_ms"], "redrive", record["actor"], record["words"]))

    def _mark(self, mark: Mark) -> None:
        """A worker says of each partition apart when its new version first answers: one mark tells it."""
        last = self.marks[-1] if self.marks else None
        if last is None or (last.kind, last.who, last.words) != (mark.kind, mark.who, mark.words):
            self.marks.append(mark)

    def _status(self, record: dict[str, Any]) -> None:
        before = self.statuses.get(record["process"])
        if before is not None and before["pid"] != record["pid"]:
            words = f"pid {before['pid']} gave way to {record['pid']}"
            self.marks.append(Mark(record["at_ms"], "restart", record["process"], words))
        _keep(self.statuses, record["process"], finite(record))

    def running(self, now_ms: int) -> dict[str, dict[str, Any]]:
        """Those that spoke of late; a time to come is no word of now."""
        return {name: one for name, one in self.statuses.items() if abs(now_ms - one["at_ms"]) < SILENT_MS}


def _decoded(value: bytes | None, topic: str, ids: SchemaIds) -> dict[str, Any]:
    """By our newest schema of the topic's record, whichever version wrote it. Raises UndecodableRecord, RetryLater."""
    writer = ids.schema_of(schema_id_of(value))
    return decode_one((value or b"")[HEAD_BYTES:], writer, avro.schema(_RECORDS[topic]))


def _keep(kept: dict[Any, Any], key: Any, value: Any, most: int = MOST_NAMES) -> None:
    """As the newest; the oldest goes where there are more than `most`."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]
