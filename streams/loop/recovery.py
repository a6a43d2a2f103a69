"""Recovers from a failed transaction: goes back to the committed offsets, and decides what must change before the next one.

*The producer*: it is replaced if it is fenced or its state is indefinite. *A record*: the broker refuses its result or dead
letter each time, because of size or form. Then the rows of that transaction are read one at a time, until the failing row is
alone and is set aside. If not even its dead letter can be written, its partition stops. *All records*: if the same failure
repeats again and again, the loop waits, with growing pauses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import (
    BrokerUnavailable,
    DeadLetterUnwritable,
    Fenced,
    MemberFenced,
    TransactionAborted,
    Unwritable,
)
from streams.broker import Sink, Source
from streams.clock import Clock
from streams.loop.assignment import Assignment
from streams.loop.breaker import Breaker
from streams.loop.outbox import Outbox, Transaction
from streams.metrics import Metrics
from streams.rows import Place

ALIKE = 5  # this many aborts in a row with the same cause are not a coincidence
FENCED_AGAIN_S = 60.0
FIRST_STOP_S, LONGEST_STOP_S = 5.0, 60.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A record whose result or dead letter cannot be written. bare: the full dead letter was refused too, so the next one omits
    its key, value and headers."""

    error: Unwritable
    bare: bool


class Recovery:
    """breaker: open while transactions fail again and again even though the broker answers."""

    def __init__(
        self,
        *,
        source: Source,
        sink: Sink,
        assignment: Assignment,
        outbox: Outbox,
        clock: Clock,
        metrics: Metrics,
        topic: str,
        dead_letter_topic: str,
        outage_limit_s: float,
        log: Any,
    ) -> None:
        self._source, self._sink, self._assignment, self._outbox = source, sink, assignment, outbox
        self._clock, self._metrics, self._log, self._outage_limit_s = clock, metrics, log, outage_limit_s
        self._topic, self._dead_letter_topic = topic, dead_letter_topic
        self.breaker = Breaker(0)
        self._aborts_in_a_row = 0
        self._alike = ("", 0)
        self._fenced_s = float("-inf")
        self._alone: dict[Place, int] = {}  # rows below this offset are read one at a time
        self._refused: dict[tuple[Place, int], Refusal] = {}
        self._stops: dict[Place, tuple[int, float]] = {}  # how often each partition was stopped, and when it is tried again

    def recover(self, failure: TransactionAborted | Fenced) -> None:
        """Drop all work in flight and read again from the committed offsets, which are authoritative.

        Raises Fenced if another live process has this one's id, BrokerUnavailable if the committed offsets cannot be read within
        the limit, DeadLetterUnwritable if no partition can continue."""
        opened, failed_topics = self._outbox.opened, self._sink.failed_topics()
        self._aborts_in_a_row += 1
        self._metrics.add("aborts", 1)
        rebuild = self._must_rebuild(failure, opened)
        self._log.warning("transaction aborted", cause=str(failure), rebuild=rebuild)
        self.go_back(rebuild=rebuild)
        cause, times = self._alike
        self._alike = (str(failure), times + 1 if cause == str(failure) else 1)
        if isinstance(failure, TransactionAborted) and failure.unwritable and opened is not None and opened.rows:
            self._narrow(opened, str(failure))
        elif opened is not None and self._dead_letter_topic in failed_topics:
            self._stop(opened.dead_letter_places, f"{self._dead_letter_topic} takes no records")
        elif self._alike[1] >= ALIKE:
            self.breaker.open(f"transactions fail, the last with: {failure}", self._clock.monotonic_s())
        self._clock.sleep(min(2.0, 0.05 * 2 ** min(self._aborts_in_a_row, 6)))

    def _must_rebuild(self, failure: TransactionAborted | Fenced, opened: Transaction | None) -> bool:
        if isinstance(failure, TransactionAborted):
            return failure.indefinite or self._aborts_in_a_row > 3
        if isinstance(failure, MemberFenced):
            raise failure
        now_s = self._clock.monotonic_s()
        if opened is not None and now_s - opened.opened_s >= self._sink.transaction_limit_s:
            return True  # the broker aborted it at its timeout: we were frozen, or a batch took too long
        if now_s - self._fenced_s < FENCED_AGAIN_S:
            raise Fenced(
                f"{failure}. The producer was replaced {now_s - self._fenced_s:.0f} s ago and is fenced again: another live process "
                "has its transactional.id. Give each process a --slot of its own"
            ) from failure
        self._fenced_s = now_s
        return True

    def go_back(self, *, rebuild: bool = False) -> None:
        """Drop all work in flight and read again from the committed offsets. Raises BrokerUnavailable if that is not possible
        within the limit."""
        deadline_s = self._clock.monotonic_s() + self._outage_limit_s
        while True:
            try:
                self._outbox.abort(rebuild=rebuild)
                self._assignment.rewind()
                return
            except (TransactionAborted, Fenced, BrokerUnavailable) as error:
                rebuild = True
                if self._clock.monotonic_s() > deadline_s:
                    raise BrokerUnavailable(f"no way back to the broker in {self._outage_limit_s:.0f} s: {error}") from error
                self._clock.sleep(0.5)

    # --- a record that cannot be written ------------------------------------------------------------------------

    def _narrow(self, opened: Transaction, cause: str) -> None:
        if opened.rows > 1 or opened.row is None:
            self._alone |= {place: max(limit, self._alone.get(place, 0)) for place, limit in opened.positions.items()}
            return
        place, offset = opened.row
        self._alone[place] = max(offset + 1, self._alone.get(place, 0))
        earlier = self._refused.get(opened.row)
        self._refused[opened.row] = Refusal(Unwritable(cause), bare=earlier is not None)
        if earlier is not None and earlier.bare:
            self._stop({place}, f"the record at offset {offset} can neither be answered nor set aside: {cause}")

    @property
    def one_at_a_time(self) -> bool:
        """Whether the loop must take its records one at a time, each in its own transaction."""
        if self._alone:
            assigned = self._source.assignment()
            offsets = self._assignment.offsets  # other members may have moved them meanwhile
            self._alone = {
                place: until for place, until in self._alone.items() if place in assigned and offsets.get(place, 0) < until
            }
            self._refused = {row: refusal for row, refusal in self._refused.items() if row[0] in assigned}
        return any(place not in self._assignment.pauses.stopped for place in self._alone)

    def refusal(self, place: Place, offset: int) -> Refusal | None:
        return self._refused.get((place, offset))

    def committed(self, positions: Mapping[Place, int]) -> None:
        self._aborts_in_a_row, self._alike = 0, ("", 0)
        if self.breaker.succeed():
            self._log.info("transactions succeed again")
        for place, position in positions.items():
            self._stops.pop(place, None)
            if position >= self._alone.get(place, position + 1):
                del self._alone[place]
        if self._refused:
            self._refused = {row: found for row, found in self._refused.items() if row[1] >= positions.get(row[0], 0)}

    # --- a partition that cannot go on --------------------------------------------------------------------------

    def _stop(self, places: set[Place], reason: str) -> None:
        for place in places:
            times = self._stops.get(place, (0, 0.0))[0]
            pause_s = min(LONGEST_STOP_S, FIRST_STOP_S * 2.0**times)
            self._stops[place] = min(times + 1, 30), self._clock.monotonic_s() + pause_s
            self._assignment.pauses.stop(place, reason)
            self._log.error("partition stopped", place=place, cause=reason, again_in_s=pause_s)
        assigned = self._source.assignment()
        mine = {place for place in assigned if place[0] == self._topic} or assigned
        if mine <= self._assignment.pauses.stopped.keys():
            raise DeadLetterUnwritable(
                f"no partition can go on: {reason}. Check that {self._dead_letter_topic} exists and has room"
            )

    def try_stopped_again(self) -> None:
        """Resume partitions whose pause is over, because the cause of the stop may have been fixed."""
        now_s = self._clock.monotonic_s()
        for place in list(self._assignment.pauses.stopped):
            _, due_s = self._stops.get(place, (0, 0.0))
            if place in self._stops and due_s <= now_s:
                self._log.info("stopped partition is tried again", place=place)
                self._assignment.pauses.start(place)
