"""The actions that a token permits. Records are written in one transaction with their audit line. An action of another package
runs as that package's command, between an audit line that says `begun` and one with the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any

import structlog

from infra.audit import Audit
from infra.monitor import forms, permits
from infra.monitor.pipeline import TopicAbout
from infra.monitor.redrive import Redrives
from infra.monitor.safety import Actor
from infra.monitor.transact import Transactions
from infra.monitor.watching.story import Story
from infra.running import command_environment
from infra.settings import StackSettings
from infra.subcommands import run_json
from schemas.errors import MillraceError
from schemas.generated import AuditEntry
from streams.clock import Clock
from streams.headers import cloud_event
from streams.ids import uuid7
from streams.kafka.config import KafkaAddress
from streams.rows import OutRecords
from streams.schema_registry import Registry

COMMAND_LIMIT_S = 120.0
UNKNOWN_EVERY_S = 10.0  # interval between audit lines about callers without a token
MOST_UNWRITTEN = 100


@dataclass(frozen=True)
class Produced:
    """request_id: header ce_id of the record."""

    request_id: str
    topic: str


class Actions:
    """Safe to use from any thread. Records are written in one transaction at a time; commands and calls of other servers may run
    side by side."""

    def __init__(self, settings: StackSettings, address: KafkaAddress, ids: Registry, clock: Clock, story: Story) -> None:
        self._settings, self._ids, self._clock, self._story = settings, ids, clock, story
        self._stopping = Event()
        self._audit = Audit(address, ids, clock, "monitor")
        self._transactions = Transactions(address, self._audit)
        self.redrives = Redrives(address, ids, clock, story, self._transactions, self._stopping)
        self._refusals, self._lock = ThreadPoolExecutor(1, "refusals"), Lock()
        self._unwritten, self._unknown, self._unknown_s = 0, 0, float("-inf")

    def close(self) -> None:
        self._stopping.set()
        self._refusals.shutdown(wait=False, cancel_futures=True)
        self._transactions.close()

    def produce(self, about: TopicAbout, key: str, value: Any, headers: Mapping[str, str], actor: Actor) -> Produced:
        """Write one record with the newest schema of the topic, which comes from `permits.producible`. Raises InvalidRequest
        with every field that does not fit, NotAllowed for another person's name or for headers that are reserved for other
        processes."""
        permits.headers(headers)
        topic, subject = about.name, about.subject
        raw = forms.encoded(self._ids, subject, permits.signed(topic, value, actor.name))
        request_id = headers.get("ce_id") or uuid7(self._clock.now_ms())
        found = cloud_event([request_id], subject.rpartition("-v")[0], f"monitor/{actor.name}")[0]
        own = [(name, text.encode()) for name, text in headers.items() if name != "ce_id"]
        out = OutRecords(topic, [key.encode()], [raw], [[*found, *own]])
        words = f"a record of key {key!r}, request {request_id}"
        entry = self._audit.entry(actor.name, actor.role, "produce", topic, words)
        self._transactions.write([out], entry)
        self._story.audited(entry)
        return Produced(request_id, topic)

    def command(self, words: Sequence[str], action: str, subject: str, actor: Actor, reason: str) -> dict[str, Any]:
        """Run `python -m training_triggers …` in the actor's name. Raises as `infra.subcommands.run_json`."""

        def run() -> dict[str, Any]:
            where = command_environment(self._settings)
            (said,) = run_json("training_triggers", *words, f"--actor={actor.name}", limit_s=COMMAND_LIMIT_S, **where)
            return said

        return self._audit.around(self._entry(actor, action, subject, reason), run, self._story.audited)

    def call(self, act: Callable[[], None], action: str, subject: str, actor: Actor, words: str) -> None:
        """Run the call of another server."""
        self._audit.around(self._entry(actor, action, subject, words), act, self._story.audited)

    def _entry(self, actor: Actor, action: str, subject: str, words: str) -> AuditEntry:
        return self._audit.entry(actor.name, actor.role, action, subject, words)

    def refused(self, actor: Actor | None, action: str, subject: str, why: str) -> None:
        """Write an audit line about a refused attempt, after the answer was sent. Attempts without a token, of which there may
        be many, share one line per UNKNOWN_EVERY_S."""
        with self._lock:
            if actor is None:
                self._unknown += 1
                now_s = self._clock.monotonic_s()
                if now_s - self._unknown_s < UNKNOWN_EVERY_S:
                    return
                self._unknown_s = now_s
                why, self._unknown = f"{why} ({self._unknown} such attempts since the last line)", 0
            if self._unwritten >= MOST_UNWRITTEN or self._stopping.is_set():
                return
            self._unwritten += 1
        who = actor or Actor("unknown", "")
        entry = self._audit.entry(who.name, who.role, action, subject[:300], why[:500], outcome="refused")
        self._refusals.submit(self._write_refusal, entry)

    def _write_refusal(self, entry: AuditEntry) -> None:
        try:
            self._audit.write(entry)
            self._story.audited(entry)
        except MillraceError as error:
            structlog.get_logger().warning("a refused attempt is not in the audit", action=entry.action, cause=str(error))
        finally:
            with self._lock:
                self._unwritten -= 1
