"""The partitions that a loop owns: records in flight, the group membership they were read under, claims, pauses, suspects.

All of it is forgotten together, in one place, when the group revokes partitions or a transaction is refused: only the
committed offsets count, and reading continues from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from schemas.errors import TransactionAborted
from streams.broker import Commit, Source
from streams.clock import Clock
from streams.loop.offsets import OffsetTracker
from streams.loop.pauses import Pauses
from streams.loop.quarantine import SUSPICIOUS, claim_note, claims_in
from streams.metrics import Metrics
from streams.rows import Place, Polled, Rows


class Assignment:
    """Implements `streams.broker.Listener`. `epoch` rises each time work in flight is forgotten."""

    def __init__(self, source: Source, clock: Clock, look_ahead_records: int, metrics: Metrics, log: Any) -> None:
        self._source = source
        self._clock = clock
        self._look_ahead_records = look_ahead_records
        self._metrics = metrics
        self._log = log
        self._claimed: set[Place] = set()  # partitions with our claim at `offsets`, for which no commit was sent since
        self._tries: dict[Place, tuple[int, int]] = {}  # strict order: offset, number of tries
        self._full = False
        self.pauses = Pauses(source)
        self.tracker = OffsetTracker()
        self.offsets: dict[Place, int] = {}  # last known committed offset
        self.standing: frozenset[Place] = frozenset()  # partitions that stand still: streams/loop/liveness.py
        self.suspects: dict[Place, int] = {}  # run alone below this offset
        self.membership: bytes | None = None  # of the oldest record in flight
        self.in_flight_records = 0
        self.in_flight_bytes = 0
        self.epoch = 0
        self.must_rewind = False
        self.must_rejoin = False
        # set by the loop: before partitions go, when work in flight was dropped, and for the step's state
        self.before_revoke: Callable[[bool], None] = lambda may_commit: None
        self.dropped: Callable[[], None] = lambda: None
        self.joined_group: Callable[[int], None] = lambda generation: None
        self.restore_state: Callable[[Mapping[Place, Commit]], None] = lambda positions: None
        self.forget_state: Callable[[Iterable[Place]], None] = lambda places: None

    # --- records come and go ------------------------------------------------------------------------------------

    def polled(self, polled: Polled) -> None:
        """Keeps the membership of the oldest record in flight: with a newer one the loop could commit for partitions that
        were lost in between (seen on Kafka 4.3.1: 30 results for 20 records)."""
        if self.in_flight_records == 0 or self.membership is None:
            self.membership = polled.membership
        self.tracker.polled(polled.places, polled.offsets)
        self.in_flight_records += len(polled)

    def admitted(self, rows: Rows) -> None:
        self.in_flight_bytes += rows.bytes()

    def released(self, rows: Rows) -> None:
        self.in_flight_records -= len(rows)
        self.in_flight_bytes -= rows.bytes()

    def is_full(self, max_records: int, max_bytes: int) -> bool:
        """With hysteresis, because a pause discards prefetched records: full at the limit, free again at half."""
        share = 0.5 if self._full else 1.0
        self._full = self.in_flight_records >= max_records * share or self.in_flight_bytes >= max_bytes * share
        return self._full

    def committing(self, places: Iterable[Place]) -> None:
        """Offsets of these partitions are about to be sent. From now on this loop must not clear their claims: the commit may
        happen although it seems to fail, and clearing a claim writes the old offset. A commit that succeeds clears the claim."""
        self._claimed.difference_update(places)

    def committed(self, positions: Mapping[Place, Commit]) -> None:
        for place, position in positions.items():
            self.offsets[place] = position.offset
            self._tries.pop(place, None)
        if self.in_flight_records == 0:
            self.membership = None

    def lowest_unfinished(self, place: Place) -> int:
        """The lowest unfinished offset; the one behind the last polled record if all are finished."""
        lowest = self.tracker.lowest_unfinished(place)
        assert lowest is not None, "a place in flight was polled"
        return lowest

    # --- suspects and strict retries ----------------------------------------------------------------------------

    def is_suspect(self, place: Place, offset: int) -> bool:
        until = self.suspects.get(place)
        if until is not None and offset >= until:
            del self.suspects[place]
            return False
        return until is not None

    def tries(self, place: Place, offset: int) -> int:
        tried_offset, tries = self._tries.get(place, (-1, 0))
        return tries if tried_offset == offset else 0

    def wait_in_place(self, place: Place, offset: int, tries: int, delay_s: float) -> None:
        """Strict order: the loop went back to this record and waits there. tries: how often it was tried."""
        self._tries[place] = (offset, tries)
        self.pauses.hold(place, self._clock.monotonic_s() + delay_s)

    # --- the group's changes ------------------------------------------------------------------------------------

    def assigned(self, places: Sequence[Place]) -> None:
        self._metrics.add("rebalances", 1)
        if not places:
            return
        committed = self._seek_to_committed(places)
        claims: dict[Place, Commit] = {}
        for place, position in committed.items():
            earlier = claims_in(position.note)
            if earlier >= SUSPICIOUS:
                self.suspects[place] = position.offset + self._look_ahead_records
                self._log.error("earlier owners died without a commit: records run alone", place=place, owners=earlier)
            claims[place] = Commit(position.offset, claim_note(earlier + 1))
        try:
            self._source.commit(claims)
            self._claimed.update(places)
        except TransactionAborted as error:  # the next rebalance has begun, and brings a new assignment
            self._log.info("claims not written", cause=str(error))
            self.must_rejoin |= (
                error.indefinite
            )  # a claim that is written late would move the offset back: the membership must end
        self._log.info("assigned", places=sorted(places), offsets=[committed[place].offset for place in sorted(places)])

    def revoked(self, places: Sequence[Place], *, lost: bool) -> None:
        self.before_revoke(not lost and self._source.commits_on_revoke)
        unclaim = {place: Commit(self.offsets[place]) for place in places if place in self._claimed}
        if unclaim and not lost:
            try:
                self._source.commit(unclaim)
            except TransactionAborted as error:
                self._log.info("claims not cleared", cause=str(error))
        self._forget(places)
        self._log.info("revoked", places=sorted(places), lost=lost)
        # Records of the remaining partitions were forgotten too, since one membership covers all. They are read again, but not from
        # this callback, during which the client is changing its assignment.
        self.must_rewind = bool(self._source.assignment() - set(places))

    def rewind(self) -> None:
        """Drop everything in flight and go back to the committed offsets. Raises BrokerUnavailable."""
        self._forget(())
        self.must_rewind = False
        committed = self._seek_to_committed(self._source.assignment())
        self._claimed = {place for place, position in committed.items() if claims_in(position.note)}

    def _seek_to_committed(self, places: Iterable[Place]) -> dict[Place, Commit]:
        committed = self._source.committed(places)
        self.offsets.update({place: position.offset for place, position in committed.items()})
        self._source.seek({place: position.offset for place, position in committed.items()})
        self.pauses.set_anew(committed)
        self.joined_group(self._source.generation)
        self.restore_state(committed)
        return committed

    def _forget(self, places: Sequence[Place]) -> None:
        self.epoch += 1
        self.tracker.clear()
        self.in_flight_records = self.in_flight_bytes = 0
        self.membership = None
        self.pauses.forget(places)
        self._claimed.difference_update(places)
        for place in places:
            self.offsets.pop(place, None)
            self._tries.pop(place, None)
            self.suspects.pop(place, None)
        self.forget_state(places)
        self.dropped()
