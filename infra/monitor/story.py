"""What the small topics tell, kept as it comes: statuses, dead letters, model updates, swaps, drift, training, audit.

`Story.take` is fed every record of `TOPICS` and of the dead-letter topics, from the first one kept; the rest reads what it holds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from infra.monitor.letters import BY_TOPIC, Letter, Position, letter
from schemas.codec import SchemaIds, read_any
from schemas.errors import MillraceError
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

TOPICS = tuple(
    topic.name
    for topic in (
        WORKER_STATUS, MODEL_UPDATES, SWAP_ACKS, DRIFT_STATE, DRIFT_EVENTS, TRAINING_REQUESTS, TRAINING_EVENTS, AUDIT,
    )
)  # fmt: skip
MOST_LETTERS = 20_000
MOST_RECORDS = 5_000  # of each other topic
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
    """records: by topic, oldest first, each with its `at_ms`. letters: the newest MOST_LETTERS, by position."""

    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    records: dict[str, deque[dict[str, Any]]] = field(default_factory=dict)
    letters: dict[Position, Letter] = field(default_factory=dict)
    letters_dropped: int = 0
    redriven: dict[Position, str] = field(default_factory=dict)
    states: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    marks: deque[Mark] = field(default_factory=lambda: deque(maxlen=MOST_RECORDS))
    not_decoded: int = 0

    def of(self, topic: str) -> list[dict[str, Any]]:
        return list(self.records.get(topic, ()))

    def take(self, polled: Polled, ids: SchemaIds) -> None:
        """Records that do not decode are counted and passed over: the message browser says why."""
        for i, (topic, _) in enumerate(polled.places):
            if topic in BY_TOPIC:
                self._letter(letter(polled, i))
                continue
            try:
                record = read_any(polled.values[i], ids)
            except MillraceError:
                self.not_decoded += 1
                continue
            self._record(topic, record, polled.timestamps_ms[i])

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
            self.states[record["detector"], record["model"], record["version"]] = {"at_ms": at_ms} | record
            return
        self.records.setdefault(topic, deque(maxlen=MOST_RECORDS)).append({"at_ms": at_ms} | record)
        if topic == SWAP_ACKS.name:
            words = f"{record['model']} {record['version']}" + (f": {record['reason']}" if record["reason"] else "")
            self._mark(Mark(at_ms, "swap" if record["accepted"] else "refused", record["worker"], words))
        elif topic == AUDIT.name and record["action"] == "redrive" and record["outcome"] == "done":
            for position in record["positions"]:
                name, partition, offset = position.rsplit("/", 2)
                self.redriven[name, int(partition), int(offset)] = f"by {record['actor']}"
            self.marks.append(Mark(at_ms, "redrive", record["actor"], record["words"]))

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
        self.statuses[record["process"]] = record

    def running(self, now_ms: int) -> dict[str, dict[str, Any]]:
        return {name: one for name, one in self.statuses.items() if now_ms - one["at_ms"] < SILENT_MS}
