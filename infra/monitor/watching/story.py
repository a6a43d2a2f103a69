"""The contents of the small topics, kept as they arrive: statuses, dead letters, model updates, swaps, drift, training, audit."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from threading import RLock
from typing import Any

from infra import audit
from infra.audit import Position
from infra.monitor.letters import DeadLetters, Letter, by_topic, letter
from schemas import avro
from schemas.codec import HEAD_BYTES, SchemaIds, schema_id_of
from schemas.decoding import decode_one
from schemas.errors import RetryLater
from schemas.generated import AuditEntry
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
from streams.terminal_text import finite

_RECORDS: dict[str, str] = {
    topic.name: topic.record_name
    for topic in (
        WORKER_STATUS,
        MODEL_UPDATES,
        SWAP_ACKS,
        DRIFT_STATE,
        DRIFT_EVENTS,
        TRAINING_REQUESTS,
        TRAINING_EVENTS,
        AUDIT,
    )
}
TOPICS = tuple(_RECORDS)
MOST_LETTERS = 20_000
MOST_RECORDS = 5_000  # per other topic
MOST_NAMES = 300  # of processes, and of watches: anybody who writes to the topics may invent more
SILENT_MS = 10_000  # a process without a status for this long is not running


@dataclass(frozen=True)
class Mark:
    """Something that happened at a moment, drawn on charts. kind: rebalance, restart, swap, refused or redrive."""

    at_ms: int
    kind: str
    who: str
    words: str


class Story:
    """Safe to use from any thread: return values of its methods belong to the caller, or never change.

    `take` receives every record of `TOPICS` and of the dead-letter topics, from the first one kept."""

    def __init__(self) -> None:
        self._lock = RLock()
        self.clear()

    def clear(self) -> None:
        """Call before all topics are read again."""
        with self._lock:
            self._statuses: dict[str, dict[str, Any]] = {}
            self._records: dict[str, deque[dict[str, Any]]] = {}  # by topic, oldest first, each with its at_ms
            self._letters: dict[Position, Letter] = {}  # the newest MOST_LETTERS
            self._letters_dropped = 0
            self._redriven: dict[Position, str] = {}
            self._states: dict[tuple[str, str, str], dict[str, Any]] = {}
            self._acts: dict[str, dict[str, Any]] = {}  # by id of their audit lines, oldest first
            self._marks: deque[Mark] = deque(maxlen=MOST_RECORDS)
            self._not_decoded = 0

    # --- what comes in ----------------------------------------------------------------------------------------------

    def take(self, polled: Polled, ids: SchemaIds) -> None:
        """Call from one thread. Records that do not match their topic's schema are counted and skipped: the message browser
        shows the reason. Raises RetryLater if the registry did not answer: records that could not be decoded for that reason
        must be read again."""
        for i, (topic, _) in enumerate(polled.places):
            try:
                self._take(polled, i, topic, ids)
            except RetryLater:
                raise
            except Exception:  # anybody may write to a topic: an error in one record must not lose the records after it
                self._not_decoded += 1

    def audited(self, entry: AuditEntry) -> None:
        """A line that this monitor wrote is known immediately, without waiting for the next read of the topic."""
        with self._lock:
            self._act(asdict(entry))

    def mark(self, mark: Mark) -> None:
        with self._lock:
            self._marks.append(mark)

    # --- what it tells ----------------------------------------------------------------------------------------------

    @property
    def not_decoded(self) -> int:
        """The number of records that do not match their topic's schema."""
        return self._not_decoded

    def of(self, topic: str) -> list[dict[str, Any]]:
        """The records of the topic, oldest first, each with its `at_ms`; for the audit, one entry per act."""
        with self._lock:
            if topic == AUDIT.name:
                return [dict(one) for one in self._acts.values()]
            return list(self._records.get(topic, ()))

    def statuses(self) -> dict[str, dict[str, Any]]:
        """The last status of each process."""
        with self._lock:
            return dict(self._statuses)

    def running(self, now_ms: int) -> dict[str, dict[str, Any]]:
        """Processes with a recent status; a status with a future time does not count."""
        return {name: one for name, one in self.statuses().items() if abs(now_ms - one["at_ms"]) < SILENT_MS}

    def drift_states(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._states.values())

    def marks(self, from_ms: int = 0) -> list[Mark]:
        """Oldest first."""
        with self._lock:
            return [mark for mark in self._marks if mark.at_ms >= from_ms]

    def dead_letters(self) -> DeadLetters:
        with self._lock:
            return DeadLetters(dict(self._letters), dict(self._redriven), self._letters_dropped)

    def _take(self, polled: Polled, i: int, topic: str, ids: SchemaIds) -> None:
        """Decodes without the lock, because the registry may answer slowly, and readers must not wait for it."""
        if topic in by_topic():
            found = letter(polled, i)
            with self._lock:
                self._letter(found)
        else:
            record = _decoded(polled.values[i], topic, ids)
            with self._lock:
                self._record(topic, record, polled.timestamps_ms[i])

    # --- under the lock ---------------------------------------------------------------------------------------------

    def _letter(self, found: Letter) -> None:
        self._letters[found.position] = found
        if len(self._letters) > MOST_LETTERS:
            self._letters.pop(next(iter(self._letters)))
            self._letters_dropped += 1

    def _record(self, topic: str, record: dict[str, Any], at_ms: int) -> None:
        if topic == WORKER_STATUS.name:
            self._status(record)
            return
        if topic == DRIFT_STATE.name:
            _keep(self._states, (record["detector"], record["model"], record["version"]), {"at_ms": at_ms} | record)
            return
        if topic == AUDIT.name:
            self._act({"at_ms": at_ms} | record)
            return
        self._records.setdefault(topic, deque(maxlen=MOST_RECORDS)).append({"at_ms": at_ms} | record)
        if topic == SWAP_ACKS.name:
            words = f"{record['model']} {record['version']}" + (f": {record['reason']}" if record["reason"] else "")
            self._swap(Mark(at_ms, "swap" if record["accepted"] else "refused", record["worker"], words))

    def _act(self, record: dict[str, Any]) -> None:
        """An audit line: the one before an act and the one after it have the same id, and become one entry with the later
        outcome."""
        known = self._acts.get(record["audit_id"])
        if known is None:
            _keep(self._acts, record["audit_id"], record | {"begun_ms": record["at_ms"]}, MOST_RECORDS)
        elif known["outcome"] == audit.BEGUN:
            known.update(record)
        positions = audit.redriven(record)
        self._redriven |= dict.fromkeys(positions, f"by {record['actor']}")
        if positions and known is None:
            self._marks.append(Mark(record["at_ms"], "redrive", record["actor"], record["words"]))

    def _swap(self, mark: Mark) -> None:
        """A worker reports for each partition when its new version first answers: they become one mark."""
        last = self._marks[-1] if self._marks else None
        if last is None or (last.kind, last.who, last.words) != (mark.kind, mark.who, mark.words):
            self._marks.append(mark)

    def _status(self, record: dict[str, Any]) -> None:
        before = self._statuses.get(record["process"])
        if before is not None and before["pid"] != record["pid"]:
            words = f"pid {before['pid']} gave way to {record['pid']}"
            self._marks.append(Mark(record["at_ms"], "restart", record["process"], words))
        _keep(self._statuses, record["process"], finite(record))


def _decoded(value: bytes | None, topic: str, ids: SchemaIds) -> dict[str, Any]:
    """Decoded with our newest schema of the topic's record, whichever version wrote it. Raises UndecodableRecord, RetryLater."""
    writer = ids.schema_of(schema_id_of(value))
    return decode_one((value or b"")[HEAD_BYTES:], writer, avro.schema(_RECORDS[topic]))


def _keep(kept: dict[Any, Any], key: Any, value: Any, most: int = MOST_NAMES) -> None:
    """Keep it as the newest; the oldest is removed if there are more than `most`."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]
