"""What a token unlocks. Each action is records on topics, and a line of audit in the same transaction; what another package does is
run as its own command, and its line says how it ended."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from threading import Event, Lock, Thread
from typing import Any

from infra import models
from infra.command import asked
from infra.monitor import browse, forms, letters
from infra.monitor.letters import Letter, Position
from infra.monitor.watch import Watch
from infra.settings import StackSettings
from schemas import avro
from schemas.codec import Encoder, write_any
from schemas.errors import Fenced, InvalidRequest, MillraceError, RecordTooLarge, Stop
from schemas.generated import AuditEntry
from schemas.topics import AUDIT
from streams.clock import Clock
from streams.headers import cloud_event
from streams.ids import uuid7
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.registry import Registry
from streams.rows import OutRecords, Place

TRANSACTION = "millrace-monitor"
COMMIT_LIMIT_S = 20.0
COMMAND_LIMIT_S = 120.0
PART = 100  # records of one transaction of a redrive
MOST_REDRIVES = 5


class Busy(Stop):
    code = "busy"


class Actions:
    """One at a time. `actor`: who, as the person said."""

    def __init__(self, settings: StackSettings, address: KafkaAddress, ids: Registry, clock: Clock, watch: Watch) -> None:
        self._settings, self._address, self._ids, self._clock, self._watch = settings, address, ids, clock, watch
        self._sink: KafkaSink | None = None
        self._lock, self._beginning = Lock(), Lock()
        self._stopping = Event()
        self.run: dict[str, Any] | None = None  # the redrive that is under way, or the last one

    def close(self) -> None:
        self._stopping.set()
        with self._lock:
            if self._sink is not None:
                self._sink.close()

    # --- records ----------------------------------------------------------------------------------------------------

    def produce(
        self, topic: str, key: str, value: Any, headers: Mapping[str, str], actor: str, role: str, subject: str
    ) -> dict[str, Any]:
        """One record by the newest schema of the topic. Raises InvalidRequest with every place that does not fit."""
        raw = self._encoded(subject, value)
        request_id = headers.get("ce_id") or uuid7(self._clock.now_ms())
        found = cloud_event([request_id], subject.rpartition("-v")[0], f"monitor/{actor}")[0]
        own = [(name, text.encode()) for name, text in headers.items() if name != "ce_id"]
        out = OutRecords(topic, [key.encode()], [raw], [[*found, *own]])
        self._write([out], self._entry(actor, role, "produce", topic, (), f"a record of key {key!r}, request {request_id}"))
        return {"request_id": request_id, "topic": topic}

    def _encoded(self, subject: str, value: Any) -> bytes:
        newest = self._ids.newest(subject)
        if newest is None:
            raise InvalidRequest(f"the registry has no subject {subject}: what this topic holds is not known")
        _, schema_id, schema = newest
        wrong = forms.problems(value, schema)
        if wrong:
            raise InvalidRequest("; ".join(wrong[:8]))
        try:
            return write_any(avro.from_json(value, schema), schema, schema_id)
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidRequest(f"the record does not fit its schema: {error}") from error

    # --- dead letters -----------------------------------------------------------------------------------------------

    def plan(self, chosen: Sequence[Letter], edited: Mapping[Position, Any]) -> dict[str, Any]:
        """What a redrive of these would do: the records that would go, and why others would not. Changes nothing."""
        with self._watch.lock:
            redriven = dict(self._watch.story.redriven)
        refused = []
        for one in chosen:
            why = letters.refusal(one, redriven, MOST_REDRIVES if one.position not in edited else sys.maxsize)
            if why is None and one.position in edited:
                why = self._unfit(one, edited[one.position])
            if why is not None:
                refused.append({"position": list(one.position), "why": why})
        out = {tuple(one["position"]) for one in refused}
        ready = [one for one in chosen if one.position not in out]
        targets: dict[str, int] = {}
        for one in ready:
            retry = letters.BY_TOPIC[one.position[0]].retry_topics()[0]
            targets[retry] = targets.get(retry, 0) + 1
        return {"ready": [list(one.position) for one in ready], "refused": refused, "targets": targets}

    def _unfit(self, one: Letter, value: Any) -> str | None:
        try:
            self._encoded(letters.BY_TOPIC[one.position[0]].topic.subject, value)
        except InvalidRequest as error:
            return str(error)
        return None

    def redrive(
        self, chosen: Sequence[Letter], edited: Mapping[Position, Any], rate_per_s: float, actor: str, role: str, reason: str
    ) -> dict[str, Any]:
        """Begin to send those that may go, PART records a transaction with their line of audit, at most `rate_per_s`. What was sent is
        never sent again, whatever ends this. Raises Busy where one is under way."""
        plan = self.plan(chosen, edited)
        ready = {tuple(position) for position in plan["ready"]}
        todo = [one for one in chosen if one.position in ready]
        with self._beginning:
            if self.run is not None and self.run["state"] == "running":
                raise Busy("a redrive is under way: wait for its end")
            self.run = run = {
                "state": "running", "n": len(todo), "done": 0, "refused": len(plan["refused"]), "actor": actor, "words": ""
            }  # fmt: skip
        Thread(
            target=self._redrive, args=(run, todo, edited, rate_per_s, actor, role, reason), name="redrive", daemon=True
        ).start()
        return {**plan, "run": dict(run)}

    def _redrive(
        self,
        run: dict[str, Any],
        todo: Sequence[Letter],
        edited: Mapping[Position, Any],
        rate: float,
        actor: str,
        role: str,
        reason: str,
    ) -> None:
        by_topic: dict[str, list[Letter]] = {}
        for one in todo:
            by_topic.setdefault(one.position[0], []).append(one)
        part = max(1, min(PART, int(rate)))
        try:
            for topic, mine in by_topic.items():
                for start in range(0, len(mine), part):
                    begun_s = self._clock.monotonic_s()
                    run["done"] += self._redrive_part(topic, mine[start : start + part], edited, actor, role, reason)
                    left_s = part / rate - (self._clock.monotonic_s() - begun_s)
                    if run["done"] < run["n"] and self._stopping.wait(max(0.0, left_s)):
                        raise Stop("the monitor was stopped; what was not sent waits as before")
            missing = run["n"] - run["done"]
            run["words"] = f"{missing} could not be read any more" if missing else ""
            run["state"] = "done"
        except MillraceError as error:
            run["state"], run["words"] = "failed", str(error)
        except Exception as error:
            run["state"], run["words"] = "failed", f"a fault of the monitor: {type(error).__name__}: {error}"

    def _redrive_part(
        self, topic: str, mine: Sequence[Letter], edited: Mapping[Position, Any], actor: str, role: str, reason: str
    ) -> int:
        wanted: dict[Place, list[int]] = {}
        for one in mine:
            wanted.setdefault((topic, one.position[1]), []).append(one.position[2])
        polled = browse.raw(self._address, wanted)
        if not len(polled):
            return 0
        subject = letters.BY_TOPIC[topic].topic.subject
        values = {one.position: self._encoded(subject, edited[one.position]) for one in mine if one.position in edited}
        out = letters.redrive(polled, range(len(polled)), values, self._clock.now_ms())
        positions = [f"{place[0]}/{place[1]}/{offset}" for place, offset in zip(polled.places, polled.offsets, strict=True)]
        words = f"{len(polled)} to {out.topic}, {len(values) or 'none'} of them mended" + (f": {reason}" if reason else "")
        self._write([out], self._entry(actor, role, "redrive", topic, positions, words))
        with self._watch.lock:  # at once, and not only when the audit has been read
            for place, offset in zip(polled.places, polled.offsets, strict=True):
                self._watch.story.redriven[place[0], place[1], offset] = f"by {actor}"
        return len(polled)

    # --- what other packages do -------------------------------------------------------------------------------------

    def command(self, words: Sequence[str], action: str, subject: str, actor: str, role: str, reason: str) -> dict[str, Any]:
        """Run `python -m training_triggers …` and audit how it ended. Raises as `infra.command.asked`.
        getpass reads from LOGNAME who acts."""
        try:
            (said,) = asked("training_triggers", *words, limit_s=COMMAND_LIMIT_S, **models.where(self._settings), LOGNAME=actor)
        except MillraceError as error:
            self._write([], self._entry(actor, role, action, subject, (), reason, f"failed: {error}"))
            raise
        self._write([], self._entry(actor, role, action, subject, (), reason))
        return said

    def audited(self, action: str, subject: str, actor: str, role: str, words: str) -> None:
        self._write([], self._entry(actor, role, action, subject, (), words))

    # --- writing ----------------------------------------------------------------------------------------------------

    def _entry(
        self, actor: str, role: str, action: str, subject: str, positions: Sequence[str], words: str, outcome: str = "done"
    ) -> AuditEntry:
        now_ms = self._clock.now_ms()
        return AuditEntry(
            audit_id=uuid7(now_ms), actor=actor, role=role, action=action, subject=subject, positions=tuple(positions), words=words,
            outcome=outcome, at_ms=now_ms,
        )  # fmt: skip

    def _write(self, out: Sequence[OutRecords], entry: AuditEntry) -> None:
        """All of it or nothing. Raises RecordTooLarge, Fenced, TransactionAborted, BrokerUnavailable."""
        line = Encoder("audit-entry", AUDIT.subject, self._ids).encode_one(entry)
        audit = OutRecords(AUDIT.name, [entry.actor.encode()], [line], cloud_event([entry.audit_id], "audit-entry", "monitor"))
        with self._lock:
            try:
                self._commit([*out, audit])
            except Fenced:  # another monitor acted since: nothing of this was committed, and now it is its turn
                self._commit([*out, audit])

    def _commit(self, out: Sequence[OutRecords]) -> None:
        sink = self._sink or KafkaSink(self._address, TRANSACTION)
        self._sink = None  # after any failure the next one begins with a producer of its own
        try:
            sink.begin()
            for records in out:
                sink.produce(records)
            sink.commit_records(COMMIT_LIMIT_S)
        except Exception as error:
            too_large = bool(sink.failed_topics())
            sink.close()
            if too_large and not isinstance(error, Fenced):
                raise RecordTooLarge(f"the broker did not take the record: {error}") from error
            raise
        self._sink = sink
