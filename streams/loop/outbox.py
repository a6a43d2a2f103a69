"""What is finished and not yet committed: held until it leaves no gap, then written, then committed with its offsets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from schemas.errors import Fenced, TransactionAborted
from streams.broker import Commit, Sink, Source
from streams.clock import Clock
from streams.loop.assignment import Assignment
from streams.loop.release import Ended, releasable
from streams.metrics import Metrics
from streams.rows import Place


@dataclass(slots=True)
class Transaction:
    """What the open transaction holds, or, at least once, what was written since the last commit. row: the last of its rows."""

    opened_s: float
    positions: dict[Place, int] = field(default_factory=dict)
    records: int = 0
    rows: int = 0
    row: tuple[Place, int] | None = None
    dead_letter_places: set[Place] = field(default_factory=set)


class Outbox:
    """Between outcomes and the broker. exactly_once: records and offsets in one transaction; in_prefix: an outcome
    waits until all before it in its partitions are finished (exactly once always, and topics of strict order)."""

    def __init__(
        self,
        *,
        source: Source,
        sink: Sink,
        assignment: Assignment,
        clock: Clock,
        metrics: Metrics,
        exactly_once: bool,
        in_prefix: bool,
        commit_limit_s: float,
        failpoint: Callable[[str], None],
    ) -> None:
        self._source, self._sink, self._assignment, self._clock = source, sink, assignment, clock
        self._metrics, self._exactly_once, self._in_prefix = metrics, exactly_once, in_prefix
        self._commit_limit_s, self._failpoint = commit_limit_s, failpoint
        self._held: list[Ended] = []
        self.opened: Transaction | None = None
        self._unusable = False  # the producer has a transaction that could not be aborted

    def hold(self, ended: Ended) -> None:
        """Take an outcome; one read under an assignment that is gone is dropped."""
        if len(ended.rows) and ended.rows.epoch != self._assignment.epoch:
            return
        self._assignment.tracker.finish(ended.rows.places, ended.rows.offsets)
        self._held.append(ended)

    def release(self) -> None:
        """Write what leaves no gap. Raises TransactionAborted."""
        if not self._held:
            return
        if self._in_prefix:
            out, self._held, limits = releasable(self._held, self._assignment.lowest_unfinished)
        else:
            out, self._held = self._held, []
            limits = {place: self._assignment.lowest_unfinished(place) for ended in out for place in ended.spans}
        if not out:
            return
        transaction = self._opened()
        for ended in out:
            if ended.rejected:
                transaction.dead_letter_places.update(ended.spans)
            transaction.positions.update((place, limits[place]) for place in ended.spans)
            if len(ended.rows):
                transaction.rows += len(ended.rows)
                transaction.row = ended.rows.places[-1], ended.rows.offsets[-1]
            for records in ended.records:
                self._sink.produce(records)
                transaction.records += len(records)
            self._assignment.released(ended.rows)

    def _opened(self) -> Transaction:
        if self.opened is None:
            if self._unusable:
                raise TransactionAborted("the last transaction could not be aborted: the producer is replaced", indefinite=True)
            if self._exactly_once:
                self._sink.begin()
            self.opened = Transaction(opened_s=self._clock.monotonic_s())
        return self.opened

    def waits(self) -> bool:
        """True while something should be committed as soon as nothing else is to be done."""
        return bool(self._held) or (self.opened is not None and self._exactly_once)

    def age_ms(self) -> float | None:
        """How long ago the open transaction began; None where there is none."""
        return None if self.opened is None else (self._clock.monotonic_s() - self.opened.opened_s) * 1000

    def commit(self) -> Mapping[Place, int] | None:
        """Commit what was written, if anything: the positions, None where there was nothing. Raises TransactionAborted, Fenced."""
        transaction = self.opened
        if transaction is None:
            return None
        started_s = self._clock.monotonic_s()
        positions = {place: Commit(offset) for place, offset in transaction.positions.items()}
        self._assignment.committing(positions)
        if self._exactly_once:
            membership = self._assignment.membership
            if membership is None:
                raise TransactionAborted("the group membership under which these records were read is gone")
            self._sink.commit(positions, membership, self._commit_limit_s)
        else:
            self._sink.flush(self._commit_limit_s)
            self._failpoint("flushed")
            self._source.commit(positions)
        self._failpoint("committed")
        self.opened = None
        self._assignment.committed(positions)
        self._metrics.add("records_out", transaction.records)
        self._metrics.observe("commit_seconds", self._clock.monotonic_s() - started_s)
        return transaction.positions

    def abort(self, *, rebuild: bool) -> None:
        """Undo what was not committed. Raises TransactionAborted, Fenced, BrokerUnavailable.

        At least once, a record that is still queued would be sent later and could fail then: another row would be blamed for it. So the
        producer is replaced, and its queue goes with it."""
        if rebuild or self._unusable or (not self._exactly_once and self.opened is not None):
            self._sink.rebuild()
            self._unusable = False
        elif self._exactly_once:
            self._sink.abort(self._commit_limit_s)
        self._held.clear()
        self.opened = None

    def drop(self) -> None:
        """Forget everything. A transaction that cannot even be aborted ends with its producer, before the next one begins: here we may
        be inside a call of the group's."""
        self._held.clear()
        if self.opened is None:
            return
        self.opened = None
        if self._exactly_once:
            try:
                self._sink.abort(self._commit_limit_s)
            except (TransactionAborted, Fenced):
                self._unusable = True
