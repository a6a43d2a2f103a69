"""Lines of `audit-v1`: who did what. One line is written before the act and one with its outcome, both with the same id."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

from infra import redact
from infra.running import addresses
from infra.settings import StackSettings
from schemas.codec import SchemaIds
from schemas.errors import MillraceError, Stop
from schemas.generated import AuditEntry
from schemas.topics import AUDIT
from streams.clock import Clock, SystemClock
from streams.ids import uuid7
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.write import write
from streams.readable import Followed, Readable
from streams.record_writer import RecordWriter
from streams.rows import OutRecords

BEGUN, DONE = "begun", "done"
LIMIT_S = 20.0
Position = tuple[str, int, int]  # topic, partition, offset
T = TypeVar("T")


@dataclass(frozen=True)
class Audit:
    """Writes audit lines alone. A transaction that also contains other records adds `line` to them instead."""

    address: KafkaAddress
    ids: SchemaIds
    clock: Clock
    writer: str  # monitor or command line

    def entry(
        self, actor: str, role: str, action: str, subject: str, words: str, positions: Sequence[str] = (), outcome: str = DONE
    ) -> AuditEntry:
        now_ms = self.clock.now_ms()
        return AuditEntry(
            audit_id=uuid7(now_ms),
            actor=actor,
            role=role,
            action=action,
            subject=subject,
            positions=tuple(positions),
            words=redact.text(words),
            outcome=redact.text(outcome),
            at_ms=now_ms,
        )

    def line(self, entry: AuditEntry) -> OutRecords:
        return RecordWriter(AUDIT, self.ids, self.writer).of(entry, entry.actor, entry.audit_id)

    def write(self, entry: AuditEntry) -> None:
        """Returns after the broker has acknowledged the line. Raises BrokerUnavailable, TransactionAborted."""
        write(self.address, self.line(entry), LIMIT_S)

    def around(self, entry: AuditEntry, act: Callable[[], T], told: Callable[[AuditEntry], None] = lambda entry: None) -> T:
        """Run the act between an audit line that says `begun` and a line with its outcome. If the first line cannot be
        written, the act does not run; if the act fails, the outcome is the cause. told: called with each line after it is
        written."""
        begun = replace(entry, outcome=BEGUN)
        self.write(begun)
        told(begun)
        outcome = "failed: it was interrupted"
        try:
            found = act()
            outcome = DONE
            return found
        except MillraceError as error:
            outcome = redact.text(f"failed: {error}")
            raise
        finally:
            ended = replace(entry, outcome=outcome, at_ms=self.clock.now_ms())
            self.write(ended)
            told(ended)


class CommandFailed(Stop):
    """A command of another package failed; it has already printed the reason."""

    code = "command-failed"


def by_hand(settings: StackSettings, action: str, subject: str, words: str, act: Callable[[], int]) -> int:
    """Run a command of the command line with the same audit as the monitor's actions, in the account's name. act: returns the
    exit code, which is returned. Raises as `Audit.around`."""
    address, ids = addresses(settings)
    audit = Audit(address, ids, SystemClock(), "command line")

    def run() -> None:
        code = act()
        codes.append(code)
        if code:
            raise CommandFailed(f"exit code {code}")

    codes: list[int] = []
    with suppress(CommandFailed):
        audit.around(audit.entry(getpass.getuser(), "command line", action, subject, words), run)
    return codes[0]


def position_of(text: str) -> Position | None:
    """Parses `topic/partition/offset`; None for anything else."""
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    numbers = partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit() and len(offset) < 20
    return (topic, int(partition), int(offset)) if topic and numbers and len(partition) < 10 else None


def redriven(record: Mapping[str, object]) -> list[Position]:
    """The dead letters that an audit line lists as redriven."""
    positions = record.get("positions")
    if record.get("action") != "redrive" or record.get("outcome") != DONE or not isinstance(positions, list | tuple):
        return []
    return [found for one in positions if isinstance(one, str) and (found := position_of(one)) is not None]


def all_redriven(address: KafkaAddress, ids: SchemaIds, clock: Clock) -> set[Position]:
    """Every dead letter that was ever redriven, according to the topic now; a line that cannot be decoded is ignored. Raises
    BrokerUnavailable, also if the registry does not answer."""
    lines = Followed(KafkaBroadcast(address, AUDIT.name, clock), Readable(AUDIT, ids, redriven))
    try:
        return set(chain.from_iterable(lines.read_to_end(LIMIT_S)))
    finally:
        lines.close()
