"""Lines of `audit-v1`: who did what, written before the act and again with its outcome, under one id."""

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
    """Writes lines on their own. What is also records takes `line` into its own transaction instead."""

    address: KafkaAddress
    ids: SchemaIds
    clock: Clock
    writer: str  # monitor or command line

    def entry(
        self, actor: str, role: str, action: str, subject: str, words: str, positions: Sequence[str] = (), outcome: str = DONE
    ) -> AuditEntry:
        now_ms = self.clock.now_ms()
        return AuditEntry(
            audit_id=uuid7(now_ms), actor=actor, role=role, action=action, subject=subject, positions=tuple(positions),
            words=redact.text(words), outcome=redact.text(outcome), at_ms=now_ms,
        )  # fmt: skip

    def line(self, entry: AuditEntry) -> OutRecords:
        return RecordWriter(AUDIT, self.ids, self.writer).of(entry, entry.actor, entry.audit_id)

    def write(self, entry: AuditEntry) -> None:
        """Returns when the broker has it. Raises BrokerUnavailable, TransactionAborted."""
        write(self.address, self.line(entry), LIMIT_S)

    def around(self, entry: AuditEntry, act: Callable[[], T], told: Callable[[AuditEntry], None] = lambda entry: None) -> T:
        """Do it, between a line that says it is begun and a line with its outcome. An act whose first line cannot be written is not
        done; one that fails has its cause as outcome. told: gets each line once it is written."""
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
    """Another package's command said no; it printed why."""

    code = "command-failed"


def by_hand(settings: StackSettings, action: str, subject: str, words: str, act: Callable[[], int]) -> int:
    """A command of the command line, audited as the monitor audits its own: in the account's name. act: its exit code, which is
    returned. Raises as `Audit.around`."""
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
    """`topic/partition/offset`; None for anything else."""
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    numbers = partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit() and len(offset) < 20
    return (topic, int(partition), int(offset)) if topic and numbers and len(partition) < 10 else None


def redriven(record: Mapping[str, object]) -> list[Position]:
    """The dead letters that a line says were sent again."""
    positions = record.get("positions")
    if record.get("action") != "redrive" or record.get("outcome") != DONE or not isinstance(positions, list | tuple):
        return []
    return [found for one in positions if isinstance(one, str) and (found := position_of(one)) is not None]


def all_redriven(address: KafkaAddress, ids: SchemaIds, clock: Clock) -> set[Position]:
    """Every dead letter that was ever sent again, as the topic says now; a line that cannot be read tells of none. Raises
    BrokerUnavailable, also where the registry does not answer."""
    lines = Followed(KafkaBroadcast(address, AUDIT.name, clock), Readable(AUDIT, ids, redriven))
    try:
        return set(chain.from_iterable(lines.read_to_end(LIMIT_S)))
    finally:
        lines.close()
