"""Holds finished outcomes until they leave no gap in offsets, then writes them, then commits them with their offsets.

Exactly once, a commit goes on in the background while the loop fills the next transaction. That one gets its first record when
all records of the first are acknowledged, so that results keep the order of their requests, and it is committed only after the
first has succeeded; if the first fails, both are aborted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from schemas.errors import Fenced, TransactionAborted
from streams.broker import Commit, Sink, Source
from streams.clock import Clock
from streams.daemon_thread import Background, Call
from streams.loop.assignment import Assignment
from streams.loop.release import Ended, releasable
from streams.metrics import Metrics
from streams.rows import Place


@dataclass(slots=True)
class Transaction:
    """The content of the open transaction or, under at least once, of the writes since the last commit. membership: that of the
    oldest record in flight when it was opened. row: its last row."""

    opened_s: float
    membership: bytes | None
    positions: dict[Place, int] = field(default_factory=dict)
    records: int = 0
    rows: int = 0
    row: tuple[Place, int] | None = None
    dead_letter_places: set[Place] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Ending:
    """A transaction whose commit is under way. written: done when its records are acknowledged, or cannot be."""

    transaction: Transaction
    positions: dict[Place, Commit]
    written: Call
    commit: Call  # returns how long it took, in seconds


class Outbox:
    """Passes outcomes to the broker. exactly_once: records and offsets are committed in one transaction. in_prefix: an outcome
    waits until all earlier rows of its partitions are finished (always for exactly once, and for topics of strict order).
    background: runs commits of transactions."""

    def __init__(
        self,
        *,
        source: Source,
        sink: Sink,
        assignment: Assignment,
        clock: Clock,
        metrics: Metrics,
        background: Background,
        exactly_once: bool,
        in_prefix: bool,
        commit_limit_s: float,
        failpoint: Callable[[str], None],
    ) -> None:
        self._source, self._sink, self._assignment, self._clock = source, sink, assignment, clock
        self._metrics, self._exactly_once, self._in_prefix = metrics, exactly_once, in_prefix
        self._commit_limit_s, self._failpoint = commit_limit_s, failpoint
        self._background = background
        self._held: list[Ended] = []
        self.opened: Transaction | None = None  # after a failed commit: the transaction that failed
        self.ending: Ending | None = None
        self.on_commit: Callable[[Mapping[Place, int]], None] = lambda positions: None  # set by the loop
        self._unusable = False  # the producer has a transaction that could not be aborted

    def hold(self, ended: Ended) -> None:
        """Take an outcome. It is dropped if its rows were read under an earlier assignment."""
        if len(ended.rows) and ended.rows.epoch != self._assignment.epoch:
            return
        self._assignment.tracker.finish(ended.rows.places, ended.rows.offsets)
        self._held.append(ended)

    def release(self, *, wait: bool = True) -> None:
        """Write the outcomes that leave no gap, behind the records of the transaction that is being committed: wait for these, or
        without `wait` leave it for a later call. Raises TransactionAborted."""
        if not self._held:
            return
        if self.ending is not None and not self.ending.written.done():
            if not wait:
                return
            with suppress(TransactionAborted, Fenced):  # `settle` raises it
                self.ending.written.result()  # the sink limits its time
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
            self.opened = Transaction(self._clock.monotonic_s(), self._assignment.membership)
        return self.opened

    def waits(self) -> bool:
        """Whether there are outcomes or an open transaction to commit as soon as the loop has no other work."""
        return bool(self._held) or (self.opened is not None and self._exactly_once)

    def age_ms(self) -> float | None:
        """Time since the open transaction began; None if no transaction is open."""
        return None if self.opened is None else (self._clock.monotonic_s() - self.opened.opened_s) * 1000

    def commit(self, *, wait: bool = True) -> None:
        """Commit the written records; nothing if there are none. wait: whether to wait for the outcome; without it, `settle` tells.
        Raises TransactionAborted, Fenced, of this commit or of the one before it."""
        self.settle(wait=True)
        transaction = self.opened
        if transaction is None:
            return
        positions = {place: Commit(offset) for place, offset in transaction.positions.items()}
        self._assignment.committing(positions)
        if not self._exactly_once:
            began_s = self._clock.monotonic_s()
            self._sink.flush(self._commit_limit_s)
            self._failpoint("flushed")
            self._source.commit(positions)
            self.opened = None
            self._committed(transaction, positions, self._clock.monotonic_s() - began_s)
            return
        if transaction.membership is None:
            raise TransactionAborted("the group membership under which these records were read is gone")
        written = self._background.submit(self._flush)
        call = self._background.submit(partial(self._commit, written, positions, transaction.membership))
        self.opened, self.ending = None, Ending(transaction, positions, written, call)
        if wait:
            self.settle(wait=True)

    def settle(self, *, wait: bool) -> None:
        """Take the outcome of the commit under way, if there is one; without `wait` only if it is known. Raises TransactionAborted,
        Fenced."""
        ending = self.ending
        if ending is None or not (wait or ending.commit.done()):
            return
        self.ending = None
        try:
            took_s = ending.commit.result()  # the sink limits its time
        except BaseException as failure:
            self.opened = ending.transaction
            self._unusable |= isinstance(failure, Fenced) or (isinstance(failure, TransactionAborted) and failure.indefinite)
            raise
        self._committed(ending.transaction, ending.positions, took_s)

    def _flush(self) -> float:
        """Returns when it began, in seconds."""
        began_s = self._clock.monotonic_s()
        self._sink.flush(self._commit_limit_s)
        return began_s

    def _commit(self, written: Call, positions: Mapping[Place, Commit], membership: bytes) -> float:
        """Returns how long it took from the flush on, in seconds: the loop may look for its outcome much later."""
        began_s: float = written.result()
        self._sink.commit(positions, membership, self._commit_limit_s)
        return self._clock.monotonic_s() - began_s

    def _committed(self, transaction: Transaction, positions: Mapping[Place, Commit], took_s: float) -> None:
        self._failpoint("committed")
        self._assignment.committed(positions)
        self._metrics.add("records_out", transaction.records)
        self._metrics.observe("commit_seconds", took_s)
        self.on_commit(transaction.positions)

    def abort(self, *, rebuild: bool) -> None:
        """Undo all uncommitted work. Raises TransactionAborted, Fenced, BrokerUnavailable.

        Under at least once, a record that is still queued would be sent later and could fail then, and the failure would be
        attributed to another row. So the producer is replaced together with its queue."""
        self._await_ending()
        if rebuild or self._unusable or (not self._exactly_once and self.opened is not None):
            self._sink.rebuild()
            self._unusable = False
        elif self._exactly_once:
            self._sink.abort(self._commit_limit_s)
        self._held.clear()
        self.opened = None

    def drop(self) -> None:
        """Drop all outcomes and the open transaction. If the transaction cannot be aborted, the producer is replaced before the
        next one begins, not here, because this may run inside a callback of the group."""
        self._held.clear()
        self._await_ending()
        if self.opened is None:
            return
        self.opened = None
        if self._exactly_once:
            try:
                self._sink.abort(self._commit_limit_s)
            except (TransactionAborted, Fenced):
                self._unusable = True

    def _await_ending(self) -> None:
        """A commit under way ends before anything is undone: its offsets could otherwise appear after they were read."""
        with suppress(TransactionAborted, Fenced):
            self.settle(wait=True)
