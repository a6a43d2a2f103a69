"""The loop: poll, admit, batch, step, release, commit. Every record ends as exactly one of Emit, Reject, Defer.

*Exactly once*: results, logs, dead letters, retries and offsets are one Kafka transaction, so a read_committed reader
sees each origin offset answered once (KIP-98, KIP-447; what the old protocol of the client leaves open is said in
`docs/guarantees.md`). *At least once*: offsets are committed after the records are acknowledged; repeats carry the
same request id and origin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import structlog

from schemas.errors import (
    BrokerUnavailable,
    DeadLetterUnwritable,
    InvalidRequest,
    PoisonRecord,
    RecordError,
    RetryLater,
    TooManyFailures,
    TransactionAborted,
)
from schemas.topic import Consumption, Order
from streams.admit import admit, waits_until_ms
from streams.assignment import Assignment
from streams.batching import Batcher
from streams.broker import Sink, Source
from streams.claims import Quarantine
from streams.clock import Clock
from streams.deadletter import dead_letters, retries
from streams.liveness import Liveness
from streams.metrics import Metrics
from streams.outbox import Outbox
from streams.outcome import Defer, Emit, Outcome, Reject
from streams.release import Ended
from streams.rows import Place, Polled, Rows
from streams.state import State
from streams.step import INLINE, Step
from streams.told import told


class Delivery(Enum):
    EXACTLY_ONCE = "exactly-once"
    AT_LEAST_ONCE = "at-least-once"


@dataclass(frozen=True, kw_only=True)
class LoopLimits:
    """Bounds of one loop. What waits in memory is at most the look-ahead, in records and in bytes."""

    delivery: Delivery = Delivery.EXACTLY_ONCE
    poll_records: int = 500
    idle_wait_ms: float = 200.0
    commit_interval_ms: float = 100.0
    look_ahead_records: int = 4_000
    look_ahead_bytes: int = 64 * 1024 * 1024
    commit_limit_s: float = 10.0
    drain_limit_s: float = 10.0
    outage_limit_s: float = 120.0
    max_failures_in_a_row: int = 100


class Follower(Protocol):
    """Something that is looked after between batches: a broadcast topic, a status report."""

    def follow(self) -> None: ...


class Loop:
    """One group member: one source, one sink, one step. Several loops may share a process; they share no state."""

    def __init__(
        self,
        *,
        consumption: Consumption,
        source: Source,
        sink: Sink,
        step: Step,
        batcher: Batcher,
        clock: Clock,
        limits: LoopLimits,
        worker: str,
        metrics: Metrics,
        quarantine: Quarantine | None = None,
        state: State | None = None,
        followers: Sequence[Follower] = (),
        failpoint: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.consumption, self.source, self.sink, self.step = consumption, source, sink, step
        self.limits, self.worker, self.metrics = limits, worker, metrics
        self._batcher, self._clock, self._followers = batcher, clock, followers
        self._failpoint = failpoint  # named steps at which chaos tests kill the process
        self._retry_topics = consumption.retry_topics()
        self._delays_ms = dict(zip(self._retry_topics, consumption.retry_delays_ms, strict=True))
        self._strict = consumption.topic.order is Order.STRICT
        self._exactly_once = limits.delivery is Delivery.EXACTLY_ONCE
        self._failures_in_a_row = 0
        self._aborts_in_a_row = 0
        self._log = structlog.get_logger().bind(worker=worker, group=consumption.group)
        self.assignment = Assignment(source, clock, limits.look_ahead_records, metrics, self._log)
        self.assignment.before_revoke = self._before_revoke
        self.assignment.dropped = self._dropped
        if state is not None:
            assert getattr(step, "hand_off_ms", INLINE) == INLINE, "state beside the offsets belongs to the loop's own thread"
            self.assignment.state = state
        self.outbox = Outbox(
            source=source, sink=sink, assignment=self.assignment, clock=clock, metrics=metrics,
            exactly_once=self._exactly_once, in_prefix=self._exactly_once or self._strict,
            commit_limit_s=limits.commit_limit_s, failpoint=failpoint,
        )  # fmt: skip
        self._quarantine = quarantine
        self._liveness = Liveness(source, self.assignment, clock, metrics, self._log)

    # --- life ---------------------------------------------------------------------------------------------------

    def run(self, stopping: Callable[[], bool]) -> None:
        """Run until `stopping()`; then finish what is in flight, within `drain_limit_s`, and leave the group.

        Raises Stop or Fenced where the process cannot go on; nothing that was not committed is lost by it.
        """
        try:
            self.source.subscribe((self.consumption.topic.name, *self._retry_topics), self.assignment)
            while not stopping():
                self.run_once()
            self._drain()
        finally:
            self._dropped()  # after a failure nothing unfinished may slip out in the last revocation
            self.source.close()
            self.step.close()
            if self._quarantine is not None:
                self._quarantine.close()
            self.sink.close()

    def run_once(self) -> None:
        for follower in self._followers:
            follower.follow()
        try:
            polled = self._poll()
            self._failpoint("polled")
            if len(polled):
                self._admit(polled)
            self._work()
            self._collect_and_release(wait_s=0.05)
            self._commit_if_due(idle=not len(polled))
            self._liveness.look(idle=not self.step.busy() and not len(self._batcher) and self.outbox.age_ms() is None)
        except TransactionAborted as aborted:
            self._recover(aborted)

    def _drain(self) -> None:
        until_s = self._clock.monotonic_s() + self.limits.drain_limit_s
        try:
            while self._clock.monotonic_s() < until_s and (len(self._batcher) or self.step.busy()):
                while (batch := self._batcher.close(float("inf"), self._clock.now_ms())) is not None:
                    self._submit(batch)
                self._collect(self.step.completed(0.1))
            self.outbox.release()
            self._commit()
        except TransactionAborted as aborted:
            self._log.warning("work in flight was given back", cause=str(aborted))
            self.outbox.drop()

    # --- poll and admit -----------------------------------------------------------------------------------------

    def _poll(self) -> Polled:
        pauses, now_s = self.assignment.pauses, self._clock.monotonic_s()
        if self.assignment.must_rejoin:
            self.assignment.must_rejoin = False
            self.source.rejoin()
        pauses.set_full(self.assignment.is_full(self.limits.look_ahead_records, self.limits.look_ahead_bytes))
        pauses.apply(now_s)
        polled = self.source.poll(self.limits.poll_records, self._wait_s(now_s))
        if self.assignment.must_rewind:
            raise TransactionAborted("partitions were taken away; what was in flight of the others is read again")
        if self._retry_topics and any(place[0] != self.consumption.topic.name for place in polled.places):
            polled = self._put_back_what_is_not_due(polled)
        return polled

    def _wait_s(self, now_s: float) -> float:
        if self.step.busy() or self.outbox.waits():
            return 0.0
        waits = [self.limits.idle_wait_ms / 1000]
        due_in_s = self._batcher.due_in_s(now_s, self._clock.now_ms())
        retry_in_s = self.assignment.pauses.next_due_in_s(now_s)
        waits.extend(wait for wait in (due_in_s, retry_in_s) if wait is not None)
        age_ms = self.outbox.age_ms()
        if age_ms is not None:
            waits.append(max(0.0, self.limits.commit_interval_ms - age_ms) / 1000)
        return min(waits)

    def _put_back_what_is_not_due(self, polled: Polled) -> Polled:
        """Retries wait in their topic: the first that is not due stops its partition there, and is read again later."""
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        put_back: dict[Place, int] = {}
        kept: list[int] = []
        for i, place in enumerate(polled.places):
            if place in put_back:
                continue
            delay_ms = self._delays_ms.get(place[0])
            not_before_ms = 0 if delay_ms is None else waits_until_ms(polled, i, now_ms, delay_ms)
            if not_before_ms <= now_ms:
                kept.append(i)
                continue
            put_back[place] = polled.offsets[i]
            self.assignment.pauses.hold(place, now_s + (not_before_ms - now_ms) / 1000)
        if not put_back:
            return polled
        self.assignment.pauses.apply(now_s)
        self.source.seek(put_back)
        return polled.take(kept)

    def _admit(self, polled: Polled) -> None:
        self.assignment.polled(polled)
        self.metrics.add("records_in", len(polled))
        admitted = admit(polled, self.consumption.topic.max_record_bytes, self._retry_topics, self.assignment.epoch)
        for i, error in admitted.refused:
            self._end(Reject(admitted.all_rows.take([i]), error, "admit"))
        rows = self._without_expired(admitted.rows)
        if self.assignment.suspects and len(rows):
            rows = self._run_suspects_alone(rows)
        self._batcher.add(rows, self._clock.monotonic_s())

    def _without_expired(self, rows: Rows) -> Rows:
        if not any(rows.deadlines_ms):
            return rows
        now_ms = self._clock.now_ms()
        late = [i for i, deadline_ms in enumerate(rows.deadlines_ms) if deadline_ms and deadline_ms <= now_ms]
        if not late:
            return rows
        self._expire(rows.take(late), "nobody waits any more: the deadline passed before the work began")
        gone = set(late)
        return rows.take([i for i in range(len(rows)) if i not in gone])

    def _expire(self, rows: Rows, message: str) -> None:
        answers, silent = told(self.step, rows, "expired", "deadline", message)
        if silent:
            self._reject(rows.take(silent), InvalidRequest("it expired, and its answer cannot be written"), "answer")
            rows = rows.take([row for row in range(len(rows)) if row not in silent])
        self.metrics.add("expired", len(rows))
        if len(rows):
            self._end(Emit(rows, answers))

    def _run_suspects_alone(self, rows: Rows) -> Rows:
        """Rows of partitions whose owners died run one by one in a child; each is committed before the next."""
        trusted: list[int] = []
        for i, (place, offset) in enumerate(zip(rows.places, rows.offsets, strict=True)):
            if not self.assignment.is_suspect(place, offset) or self._quarantine is None:
                trusted.append(i)
                continue
            self._collect(self._quarantine.run(rows.take([i])))
            self.outbox.release()
            self._commit()
        return rows.take(trusted)

    # --- batch and step -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Batches that are due, one after the other, but not for longer than a commit interval: then poll again, so
        that what is finished is committed and the group is served while much is waiting."""
        until_s = self._clock.monotonic_s() + self.limits.commit_interval_ms / 1000
        while not self.step.busy() and self._clock.monotonic_s() <= until_s:
            batch = self._batcher.close(self._clock.monotonic_s(), self._clock.now_ms())
            if batch is None:
                return
            self._submit(batch)
            self._collect_and_release(wait_s=0.0)
            self._commit_if_due(idle=False)

    def _collect_and_release(self, wait_s: float) -> None:
        self._collect(self.step.completed(wait_s))
        self._failpoint("computed")
        self.outbox.release()
        self._failpoint("produced")

    def _submit(self, batch: Rows) -> None:
        batch = self._without_expired(batch)
        if not len(batch):
            return
        started_s = self._clock.monotonic_s()
        self.step.submit(batch)
        self.metrics.add("batches", 1)
        self.metrics.observe("batch_size", len(batch))
        self.metrics.observe("step_seconds", self._clock.monotonic_s() - started_s)

    def _collect(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if len(outcome.rows) and outcome.rows.epoch != self.assignment.epoch:
                continue  # read under an assignment that is gone: its next owner, or we, read it again
            self._end(outcome)

    # --- the three ends -----------------------------------------------------------------------------------------

    def _end(self, outcome: Outcome) -> None:
        match outcome:
            case Emit():
                self._failures_in_a_row = 0
                self.outbox.hold(Ended(outcome.rows, outcome.records))
            case Reject():
                self._reject(outcome.rows, outcome.error, outcome.step)
            case Defer():
                for i in range(len(outcome.rows)):
                    self._defer(outcome.rows.take([i]), outcome.error, outcome.step)

    def _reject(self, rows: Rows, error: RecordError, step: str) -> None:
        self.metrics.add("dead_letters", len(rows), code=error.code)
        self._log.warning("dead letter", code=error.code, cause=str(error), step=step, origins=rows.origins[:3])
        if isinstance(error, PoisonRecord):
            self._failures_in_a_row += len(rows)
            if self._failures_in_a_row > self.limits.max_failures_in_a_row:
                raise TooManyFailures(
                    f"{self._failures_in_a_row} records in a row failed, the last with: {error}. Nothing of this run of "
                    "failures past the last commit was set aside: mend the model or the task and start again"
                )
        letters = dead_letters(self.consumption.dead_letter_topic, rows, error, step, self.worker)
        answers, _ = told(self.step, rows, "failed", error.code, str(error))
        self.outbox.hold(Ended(rows, [letters, *answers], rejected=True))

    def _defer(self, row: Rows, error: RetryLater, step: str) -> None:
        attempt, delays = row.attempts[0], self.consumption.retry_delays_ms
        if self._strict:
            attempt = self.assignment.tries(row.places[0], row.offsets[0])
        if attempt >= len(delays):
            self._reject(row, PoisonRecord(f"gave up after {attempt + 1} tries, the last with: {error}"), step)
            return
        self.metrics.add("retries", len(row))
        not_before_ms = self._clock.now_ms() + delays[attempt]
        if row.deadlines_ms[0] and row.deadlines_ms[0] <= not_before_ms:
            self._expire(row, f"the next try would come after the deadline; this one failed with: {error}")
        elif self._strict:
            self.outbox.release()
            self._commit()
            self.assignment.try_again_in_place(row.places[0], row.offsets[0], delays[attempt] / 1000)
        else:
            topic = self._retry_topics[attempt]
            self.outbox.hold(Ended(row, [retries(topic, row, error, step, self.worker, not_before_ms)]))

    # --- commit -------------------------------------------------------------------------------------------------

    def _commit_if_due(self, *, idle: bool) -> None:
        age_ms = self.outbox.age_ms()
        if age_ms is not None and (age_ms >= self.limits.commit_interval_ms or (idle and self._exactly_once)):
            self._commit()

    def _commit(self) -> None:
        if self.outbox.commit():
            self._aborts_in_a_row = 0

    # --- when it does not go well -------------------------------------------------------------------------------

    def _recover(self, aborted: TransactionAborted) -> None:
        """Forget all that is in flight and read again from the committed offsets, which are the truth."""
        self._aborts_in_a_row += 1
        self.metrics.add("aborts", 1)
        failed_topics = self.sink.failed_topics()
        stopped = self.outbox.dead_letter_places()
        self._log.warning("transaction aborted", cause=str(aborted), indefinite=aborted.indefinite)
        deadline_s = self._clock.monotonic_s() + self.limits.outage_limit_s
        indefinite = aborted.indefinite
        while True:
            try:
                self.outbox.abort(rebuild=indefinite or self._aborts_in_a_row > 3)
                self.assignment.rewind()
                break
            except (TransactionAborted, BrokerUnavailable) as error:
                indefinite = True
                if self._clock.monotonic_s() > deadline_s:
                    raise BrokerUnavailable(
                        f"no way back to the broker in {self.limits.outage_limit_s:.0f} s: {error}"
                    ) from error
                self._clock.sleep(0.5)
        if self.consumption.dead_letter_topic in failed_topics:
            self._stop_partitions(stopped)
        self._clock.sleep(min(2.0, 0.05 * 2 ** min(self._aborts_in_a_row, 6)))

    def _stop_partitions(self, places: set[Place]) -> None:
        topic = self.consumption.dead_letter_topic
        for place in places:
            self.assignment.pauses.stop(place, f"{topic} takes no records")
            self._log.error("partition stopped: its dead letters cannot be written", place=place, topic=topic)
        mine = {place for place in self.source.assignment() if place[0] == self.consumption.topic.name}
        if mine <= self.assignment.pauses.stopped.keys():
            raise DeadLetterUnwritable(f"no partition can go on: {topic} takes no records. Check that it exists and has room")

    def _before_revoke(self) -> None:
        """Called inside a rebalance while the old generation still holds: what is finished may still be committed."""
        try:
            self.outbox.release()
            self._commit()
        except TransactionAborted as aborted:
            self._log.info("commit at revocation refused", cause=str(aborted))

    def _dropped(self) -> None:
        """All work in flight was forgotten: so is the open transaction."""
        self._batcher.clear()
        self.outbox.drop()
