"""The loop: poll, admit, batch, step, release, commit. Every record ends as exactly one of Emit, Reject, Defer.

*Exactly once*: results, logs, dead letters, retries and offsets are one Kafka transaction, so a read_committed reader
sees each origin offset answered once (KIP-98, KIP-447; `docs/guarantees.md` says what the client's old protocol leaves open). *At least once*: offsets are committed after the records are acknowledged; repeats carry the
same request id and origin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from schemas.errors import Fenced, InvalidRequest, PoisonRecord, RecordError, RetriesExhausted, RetryLater, TransactionAborted
from schemas.topic_kinds import Consumption, Order
from streams.broker import Sink, Source
from streams.clock import Clock
from streams.daemon_thread import Background
from streams.loop.admit import admit, not_due
from streams.loop.assignment import Assignment
from streams.loop.batching import Batcher
from streams.loop.caller_answers import answers
from streams.loop.deadletter import answerable, bare, dead_letters, retries
from streams.loop.limits import Delivery, LoopLimits
from streams.loop.liveness import Liveness
from streams.loop.outbox import Outbox
from streams.loop.outcome import Defer, Emit, Outcome, Reject
from streams.loop.processor import Periodic
from streams.loop.quarantine import Quarantine
from streams.loop.recovery import Recovery
from streams.loop.release import Ended
from streams.loop.step import Step
from streams.loop.suspects import Suspects
from streams.loop.trials import Trials
from streams.metrics import Metrics
from streams.rows import Polled, Rows

SETTLE_S = 0.005  # so often an idle loop looks for the outcome of a commit
SUSPECTS_S = 1.0  # a round runs suspects for at most this long, then serves the group


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
        background: Background,
        quarantine: Quarantine | None = None,
        periodic: Sequence[Periodic] = (),
        failpoint: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.consumption, self.source, self.sink, self.step = consumption, source, sink, step
        self.limits, self.worker, self.metrics, self._background = limits, worker, metrics, background
        self._batcher, self._clock, self.periodic = batcher, clock, list(periodic)
        self._failpoint = failpoint  # named steps at which chaos tests kill the process
        self._retry_topics = consumption.retry_topics()
        self._delays_ms = dict(zip(self._retry_topics, consumption.retry_delays_ms, strict=True))
        self._strict = consumption.topic.order is Order.STRICT
        self._exactly_once = limits.delivery is Delivery.EXACTLY_ONCE
        self._log = structlog.get_logger().bind(worker=worker, group=consumption.group)
        self.trials = Trials(limits.max_failures_in_a_row, self._strict, clock, self._log)
        self.assignment = Assignment(source, clock, limits.look_ahead_records, metrics, self._log)
        self.assignment.before_revoke = self._before_revoke
        self.assignment.dropped = self._dropped
        self.assignment.joined_group = step.joined
        self.assignment.restore_state, self.assignment.forget_state = step.restore, step.forget
        self.outbox = Outbox(
            source=source,
            sink=sink,
            assignment=self.assignment,
            clock=clock,
            metrics=metrics,
            background=background,
            exactly_once=self._exactly_once,
            in_prefix=self._exactly_once or self._strict,
            commit_limit_s=limits.commit_limit_s,
            failpoint=failpoint,
        )
        self.recovery = Recovery(
            source=source,
            sink=sink,
            assignment=self.assignment,
            outbox=self.outbox,
            clock=clock,
            metrics=metrics,
            topic=consumption.topic.name,
            dead_letter_topic=consumption.dead_letter_topic,
            outage_limit_s=limits.outage_limit_s,
            log=self._log,
        )
        self.outbox.on_commit = self.recovery.committed
        self._liveness = Liveness(source, self.assignment, clock, metrics, self._log)
        self._suspects = Suspects(quarantine, self.assignment.is_suspect, clock, self._log)

    @property
    def held_back(self) -> str:
        """Why the loop takes no work at present; empty while it does."""
        return self.trials.breaker.reason or self.recovery.breaker.reason

    # --- life ---------------------------------------------------------------------------------------------------

    def run(self, stopping: Callable[[], bool]) -> None:
        """Run until `stopping()`; then finish what is in flight, within `drain_limit_s`, and leave the group.

        Raises Stop or Fenced if the process cannot continue; records that were not committed are read again by their next owner.
        """
        try:
            self.source.subscribe((self.consumption.topic.name, *self._retry_topics), self.assignment)
            while not stopping():
                self.run_once()
            self._drain()
        finally:
            self._dropped()  # after a failure, unfinished work must not be committed in the last revocation
            self.source.close()
            self.step.close()
            self._suspects.close()
            self._background.close()
            self.sink.close()

    def run_once(self) -> None:
        self.step.tick()
        for periodic in self.periodic:
            periodic.tick()
        try:
            held = self._holds()
            polled = self._poll()
            self._failpoint("polled")
            if len(polled):
                self._admit(polled)
            if (
                not held
            ):  # after a hold, this poll ran with paused partitions; the next one reads records that may show that the step works
                self._run_suspects()
                self._work()
            self._collect_and_release(wait_s=0.05)
            self._commit_if_due(idle=not len(polled), drained=len(polled) < self.limits.poll_records)
            others_wait = self.recovery.one_at_a_time and len(polled) > 0
            idle = not len(polled) and self._is_idle()
            self._liveness.look(idle=idle, held=others_wait or self._holds(), keeps=self.step.keeps)
        except (TransactionAborted, Fenced) as failure:
            self.recovery.recover(failure)

    def _drain(self) -> None:
        """Finish batches in progress, and start others while time is left; the rest is not committed, so its next owner reads it."""
        until_s = self._clock.monotonic_s() + self.limits.drain_limit_s
        try:
            while self._clock.monotonic_s() < until_s:
                if not self.step.busy():
                    batch = None if self._holds() else self._batcher.close(float("inf"), self._clock.now_ms())
                    if batch is None:
                        break
                    self._submit(batch)
                self._collect_and_release(wait_s=0.1)
                self._commit_if_due()
            self.outbox.release()
            self.outbox.commit()
        except (TransactionAborted, Fenced) as failure:
            self._log.warning("work in flight was given back", cause=str(failure))
            self.outbox.drop()

    def _is_idle(self) -> bool:
        return not (self.step.busy() or len(self._batcher) or self._suspects or self.outbox.opened or self.outbox.ending)

    def _holds(self) -> bool:
        now_s = self._clock.monotonic_s()
        return self.trials.breaker.holds(now_s) or self.recovery.breaker.holds(now_s)

    # --- poll and admit -----------------------------------------------------------------------------------------

    def _poll(self) -> Polled:
        assignment, pauses, now_s = self.assignment, self.assignment.pauses, self._clock.monotonic_s()
        if assignment.must_rejoin:
            assignment.must_rejoin = False
            self.source.rejoin()
        self.recovery.try_stopped_again()
        alone = self.recovery.one_at_a_time
        full = assignment.is_full(self.limits.look_ahead_records, self.limits.look_ahead_bytes)
        busy = (
            assignment.in_flight_records > 0 and not self.trials.breaker.reason
        )  # records that are held back need others beside them
        pauses.set_full(full or self._holds() or (alone and busy))
        pauses.apply(now_s)
        polled = self.source.poll(1 if alone else self.limits.poll_records, self._wait_s(now_s))
        if assignment.must_rewind:  # partitions were revoked: records in flight in the others are read again
            self.recovery.go_back()
            return Polled()
        if self._retry_topics and any(place[0] != self.consumption.topic.name for place in polled.places):
            polled = self._put_back_what_is_not_due(polled)
        return polled

    def _wait_s(self, now_s: float) -> float:
        waits = [self.limits.idle_wait_ms / 1000, self.assignment.pauses.next_due_in_s(now_s)]
        if self._holds():
            waits += [self.trials.breaker.due_in_s(now_s), self.recovery.breaker.due_in_s(now_s)]
        elif self.step.busy() or self.outbox.waits():
            return 0.0
        elif not self.held_back:
            waits += [self._batcher.due_in_s(now_s, self._clock.now_ms()), self._suspects.due_in_s(now_s)]
        if self.outbox.ending is not None:
            waits.append(SETTLE_S)
        age_ms = self.outbox.age_ms()
        if age_ms is not None:
            waits.append(max(0.0, self.limits.commit_interval_ms - age_ms) / 1000)
        return min(wait for wait in waits if wait is not None)

    def _put_back_what_is_not_due(self, polled: Polled) -> Polled:
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        kept, put_back = not_due(polled, self._delays_ms, now_ms)
        if not put_back:
            return polled
        for place, (_, due_ms) in put_back.items():
            self.assignment.pauses.hold(place, now_s + (due_ms - now_ms) / 1000)
        self.assignment.pauses.apply(now_s)
        self.source.seek({place: offset for place, (offset, _) in put_back.items()})
        return polled.take(kept)

    def _admit(self, polled: Polled) -> None:
        self.assignment.polled(polled)
        self.metrics.add("records_in", len(polled))
        admitted = admit(polled, self.consumption.topic.max_record_bytes, self._retry_topics, self.assignment.epoch)
        self.assignment.admitted(admitted.all_rows)
        if len(rows := admitted.all_rows) == 1 and (refusal := self.recovery.refusal(rows.places[0], rows.offsets[0])):
            return self._reject(bare(rows) if refusal.bare else rows, refusal.error, "write")
        for i, error in admitted.refused:
            self._end(Reject(admitted.all_rows.take([i]), error, "admit"))
        rows = self._without_expired(admitted.rows)
        rows = self._suspects.take_from(rows) if self.assignment.suspects else rows
        return self._batcher.add(rows, self._clock.monotonic_s())

    def _without_expired(self, rows: Rows) -> Rows:
        if not any(rows.deadlines_ms):
            return rows
        now_ms = self._clock.now_ms()
        late = [i for i, deadline_ms in enumerate(rows.deadlines_ms) if deadline_ms and deadline_ms <= now_ms]
        if not late:
            return rows
        self._expire(rows.take(late), "nobody waits any more: the deadline passed before the work began")
        return rows.without(set(late))

    def _expire(self, rows: Rows, message: str) -> None:
        records, unanswered = answers(self.step, answerable(rows), "expired", "deadline", message)
        if unanswered:
            self._reject(rows.take(unanswered), InvalidRequest("it expired, and its answer cannot be written"), "answer")
            rows = rows.without(unanswered)
        self.metrics.add("expired", len(rows))
        if len(rows):
            self._end(Emit(rows, records))

    def _run_suspects(self) -> None:
        """Run suspects one by one, each committed before the next, for at most SUSPECTS_S; then serve the group."""
        until_s = self._clock.monotonic_s() + SUSPECTS_S
        while self._suspects.due_in_s(now_s := self._clock.monotonic_s()) == 0.0 and now_s <= until_s and not self._holds():
            self.outbox.commit()  # no transaction is open while it runs
            self._collect(self._suspects.run_first())
            self.outbox.release()
            self.outbox.commit()

    # --- batch and step -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Run batches that are due, for at most a commit interval; then poll again, so that finished work is committed and the group
        is served while many records wait."""
        until_s = self._clock.monotonic_s() + self.limits.commit_interval_ms / 1000
        while self.step.takes_more() and self._clock.monotonic_s() <= until_s and not self._holds():
            trial = self.trials.breaker.reason != ""
            batch = (
                self.trials.next(self._batcher) if trial else self._batcher.close(self._clock.monotonic_s(), self._clock.now_ms())
            )
            if batch is None:
                return
            self._submit(batch)
            self._collect_and_release(wait_s=0.0)
            self._commit_if_due()

    def _collect_and_release(self, wait_s: float) -> None:
        self._collect(self.step.completed(wait_s))
        self._failpoint("computed")
        self.outbox.release(wait=not self.step.busy())
        self._failpoint("produced")

    def _submit(self, batch: Rows) -> None:
        batch = self._without_expired(batch)
        if not len(batch):
            return
        if self.outbox.opened is not None and self.step.takes_long(batch):
            self.outbox.commit(wait=False)  # the broker would abort a transaction that stays open during a long batch
        started_s = self._clock.monotonic_s()
        self.step.submit(batch)
        self.metrics.add("batches", 1)
        self.metrics.observe("batch_size", len(batch))
        self.metrics.observe("step_seconds", self._clock.monotonic_s() - started_s)

    def _collect(self, outcomes: Sequence[Outcome]) -> None:
        for rows in [outcome.rows for outcome in outcomes if isinstance(outcome, Emit) and len(outcome.rows)]:
            self.trials.answered(rows)  # first, because in strict order a rejected row makes the loop read the others again
        for outcome in outcomes:
            is_witness = self.trials.is_witness(outcome.rows)
            if len(outcome.rows) and outcome.rows.epoch != self.assignment.epoch and not is_witness:
                continue  # read under an earlier assignment: its next owner, or this loop, reads it again
            if not is_witness:
                self._end(outcome)

    # --- the three ends -----------------------------------------------------------------------------------------

    def _end(self, outcome: Outcome) -> None:
        match outcome:
            case Emit():
                self.outbox.hold(Ended(outcome.rows, outcome.records))
            case Reject():
                self._reject(outcome.rows, outcome.error, outcome.step)
            case Defer():
                for i in range(len(outcome.rows)):
                    self._defer(outcome.rows.take([i]), outcome.error, outcome.step)

    def _reject(self, rows: Rows, error: RecordError, step: str) -> None:
        if rows.epoch != self.assignment.epoch:
            return None
        if isinstance(error, PoisonRecord) and self.trials.step_is_to_blame(error):
            return self._hold_back(rows)
        self.metrics.add("dead_letters", len(rows), code=error.code)
        self._log.warning("dead letter", code=error.code, cause=str(error), step=step, origins=rows.origins[:3])
        letters = dead_letters(self.consumption.dead_letter_topic, rows, error, step, self.worker)
        records, _ = answers(self.step, answerable(rows), "failed", error.code, str(error))
        return self.outbox.hold(Ended(rows, [letters, *records], rejected=True))

    def _hold_back(self, rows: Rows) -> None:
        """Rows that failed through no fault of their own wait behind the others for the next trial: one of those may succeed."""
        if self._strict:
            self._commit_and_go_back()
        elif self._suspects.among(rows):
            self._suspects.put_back(rows)
        else:
            self._batcher.add(rows, self._clock.monotonic_s())

    def _defer(self, row: Rows, error: RetryLater, step: str) -> None:
        if row.epoch != self.assignment.epoch:
            return  # in strict order the first row of a batch made the loop read the others again
        attempt, delays = row.attempts[0], self.consumption.retry_delays_ms
        if self._strict:
            attempt = self.assignment.tries(row.places[0], row.offsets[0])
        if attempt >= len(delays):
            self._reject(row, RetriesExhausted(f"gave up after {attempt + 1} tries, the last with: {error}"), step)
            return
        self.metrics.add("retries", len(row))
        not_before_ms = self._clock.now_ms() + delays[attempt]
        if row.deadlines_ms[0] and row.deadlines_ms[0] <= not_before_ms:
            self._expire(row, f"the next try would come after the deadline; this one failed with: {error}")
        elif self._strict:
            self._commit_and_go_back()
            self.assignment.wait_in_place(row.places[0], row.offsets[0], attempt + 1, delays[attempt] / 1000)
        else:
            records = retries(self._retry_topics[attempt], row, error, step, self.worker, not_before_ms)
            self.outbox.hold(Ended(row, [records]))

    def _commit_and_go_back(self) -> None:
        """Strict order: commit finished work, then read the waiting record and all behind it again."""
        self.outbox.release()
        self.outbox.commit()
        self.recovery.go_back()

    # --- commit -------------------------------------------------------------------------------------------------

    def _commit_if_due(self, *, idle: bool = False, drained: bool = False) -> None:
        """idle: the last poll brought nothing. drained: it took all that had been fetched, so nothing more would join the
        transaction now."""
        self.outbox.settle(wait=False)
        age_ms, alone = self.outbox.age_ms(), self.recovery.one_at_a_time
        at_once = self._exactly_once and (idle or (drained and self.outbox.ending is None))
        if age_ms is not None and (age_ms >= self.limits.commit_interval_ms or at_once or alone):
            self.outbox.commit(wait=alone)

    # --- when partitions go -------------------------------------------------------------------------------------

    def _before_revoke(self, may_commit: bool) -> None:
        """Called inside a rebalance. A commit under way ends first. may_commit: the old generation is still valid, so finished work
        can be committed too."""
        try:
            self.outbox.settle(wait=True)
            if may_commit:
                self.outbox.release()
                self.outbox.commit()
        except (TransactionAborted, Fenced) as failure:
            self._log.info("commit at revocation refused", cause=str(failure))

    def _dropped(self) -> None:
        """All work in flight was dropped; drop the open transaction too."""
        self._batcher.clear()
        self._suspects.clear()
        self.outbox.drop()
