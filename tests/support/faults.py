"""Commits that fail, around any sink: simulates a slow, disconnected or failing-over broker at a moment that the test chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from schemas.errors import TransactionAborted
from streams.broker import Commit, Sink
from streams.rows import OutRecords, Place


class Fault(Enum):
    NONE = "it happens"
    UNSEEN = "it happens, and the answer is lost"
    LOST = "it never reaches the broker"
    REFUSED = "the broker refuses it"


class FaultySink:
    """Implements `streams.broker.Sink`. next_fault: called at each commit."""

    def __init__(self, sink: Sink, next_fault: Callable[[], Fault]) -> None:
        self._sink, self._next_fault = sink, next_fault
        self.transaction_limit_s = sink.transaction_limit_s

    def commit(self, positions: Mapping[Place, Commit], membership: bytes, limit_s: float) -> None:
        fault = self._next_fault()
        if fault is Fault.REFUSED:
            raise TransactionAborted("the broker refuses the commit")
        if fault is not Fault.LOST:
            self._sink.commit(positions, membership, limit_s)
        if fault is not Fault.NONE:
            raise TransactionAborted("no answer to the commit", indefinite=True)

    def produce(self, out: OutRecords) -> None:
        self._sink.produce(out)

    def flush(self, limit_s: float) -> None:
        self._sink.flush(limit_s)

    def begin(self) -> None:
        self._sink.begin()

    def abort(self, limit_s: float) -> None:
        self._sink.abort(limit_s)

    def rebuild(self) -> None:
        self._sink.rebuild()

    def failed_topics(self) -> set[str]:
        return self._sink.failed_topics()

    def close(self) -> None:
        self._sink.close()
