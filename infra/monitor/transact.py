"""The transactions of all monitors of one broker, which share one transactional id: a monitor that opens it fences the
previous one."""

from __future__ import annotations

from collections.abc import Sequence
from threading import RLock

from infra.audit import Audit, Position, all_redriven
from schemas.errors import Fenced, MillraceError, RecordTooLarge
from schemas.generated import AuditEntry
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords

TRANSACTION = "millrace-monitor"
COMMIT_LIMIT_S = 20.0
FENCED = "another monitor acted in the same moment, and this was not written: look at the audit before you ask again"


class Transactions:
    """One transaction at a time, under `lock`. A fenced transaction is never written again unless somebody requests it."""

    def __init__(self, address: KafkaAddress, audit: Audit) -> None:
        self._address, self._audit = address, audit
        self._sink: KafkaSink | None = None  # of the redrive in progress; all other writes meanwhile share it
        self.lock = RLock()

    def write(self, out: Sequence[OutRecords], entry: AuditEntry) -> None:
        """Write all records with their audit line, or nothing. Raises RecordTooLarge, Fenced, TransactionAborted,
        BrokerUnavailable."""
        with self.lock:
            kept = self._sink
            sink = kept or KafkaSink(self._address, TRANSACTION)
            try:
                self._commit(sink, [*out, self._audit.line(entry)])
            except MillraceError:
                self._sink = None
                raise
            if kept is None:
                sink.close()

    def claim(self) -> set[Position] | None:
        """Call before the parts of a redrive: opens the id, and reads which letters were redriven by then. From here to
        `release`, a letter that another monitor redrives means that this monitor is fenced. None if the id is held since the
        last call; then there is nothing to read."""
        with self.lock:
            if self._sink is not None:
                return None
            self._sink = KafkaSink(self._address, TRANSACTION)
            try:
                return all_redriven(self._address, self._audit.ids, self._audit.clock)
            except MillraceError:
                self.release()
                raise

    def release(self) -> None:
        with self.lock:
            if self._sink is not None:
                self._sink.close()
            self._sink = None

    close = release

    def entry(self, actor: str, role: str, topic: str, positions: Sequence[str], words: str) -> AuditEntry:
        return self._audit.entry(actor, role, "redrive", topic, words, positions)

    def _commit(self, sink: KafkaSink, out: Sequence[OutRecords]) -> None:
        try:
            sink.begin()
            for records in out:
                sink.produce(records)
            sink.commit_records(COMMIT_LIMIT_S)
        except Fenced as error:
            sink.close()
            raise Fenced(FENCED) from error
        except Exception as error:
            too_large = bool(sink.failed_topics())
            sink.close()
            if too_large:
                raise RecordTooLarge(f"the broker did not take the record: {error}") from error
            raise
