"""Detects partitions that stand still: there are records after the committed offset, no pause holds them back, and their owner
is idle.

The owner notices this within seconds, whether the cause is in the client, the broker or our own state. It drops its work in
flight and reads again from the committed offsets, with every position and pause set again. If that does not help, the process
ends, so that the group gives the partition to another process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemas.errors import BrokerUnavailable, StandsStill, TransactionAborted
from streams.broker import Source
from streams.clock import Clock
from streams.loop.assignment import Assignment
from streams.metrics import Metrics
from streams.rows import Place

LOOK_EVERY_S = 2.0
IDLE_LIMIT_S = 4.0  # an idle owner reads all available records within one fetch
BUSY_LIMIT_S = 30.0  # a busy owner may be delayed by the records of other partitions
MAX_HEALINGS = 3


@dataclass(slots=True)
class _Standing:
    """The time since which a partition's committed offset has not moved, and how often reading again did not help."""

    offset: int
    since_s: float
    healings: int = 0


class Liveness:
    def __init__(self, source: Source, assignment: Assignment, clock: Clock, metrics: Metrics, log: Any) -> None:
        self._source, self._assignment, self._clock, self._metrics, self._log = source, assignment, clock, metrics, log
        self._standing: dict[Place, _Standing] = {}
        self._looked_s = self._busy_s = clock.monotonic_s()

    def look(self, *, idle: bool, held: bool, keeps: Callable[[Place], bool] = lambda place: False) -> None:
        """idle: no work is being batched, computed or committed. held: the loop takes no work at present. keeps: whether the step keeps
        rows of a partition on purpose (`Step.keeps`). Does not wait for the broker.

        Raises TransactionAborted if a partition stands still and reading again from the committed offsets may help,
        StandsStill if that was tried `MAX_HEALINGS` times.
        """
        now_s = self._clock.monotonic_s()
        if not idle:
            self._busy_s = now_s
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        waiting = self._without_progress(now_s, idle=idle, held=held, keeps=keeps)
        unread = self._unread(waiting) if waiting else {}
        if unread is None:
            return  # the broker has not answered yet: check again in the next round
        self._looked_s = now_s
        still = [place for place in waiting if unread.get(place, 0) > 0 or self._assignment.tracker.has_unfinished(place)]
        self._assignment.standing = frozenset(still)
        self._metrics.set("standing_partitions", len(still))
        if still:
            self._heal(still, now_s)

    def _without_progress(self, now_s: float, *, idle: bool, held: bool, keeps: Callable[[Place], bool]) -> list[Place]:
        """Partitions whose committed offset has not moved for too long, without a known reason."""
        offsets, tracker = self._assignment.offsets, self._assignment.tracker
        for place in self._standing.keys() - offsets.keys():
            del self._standing[place]
        waiting: list[Place] = []
        for place, offset in offsets.items():
            seen = self._standing.get(place)
            if seen is None or seen.offset != offset:
                self._standing[place] = _Standing(offset, now_s)
            elif held or self._assignment.pauses.holds_back(place) or keeps(place):
                seen.since_s = now_s
            elif (idle and min(now_s - seen.since_s, now_s - self._busy_s) >= IDLE_LIMIT_S) or (
                now_s - seen.since_s >= BUSY_LIMIT_S and not tracker.has_unfinished(place)
            ):
                waiting.append(place)
        return waiting

    def _unread(self, places: list[Place]) -> dict[Place, int] | None:
        tracker, offsets = self._assignment.tracker, self._assignment.offsets
        try:
            return self._source.unread({place: max(offsets[place], tracker.position(place) or 0) for place in places})
        except BrokerUnavailable as error:
            self._log.info("the ends of partitions are not known", cause=str(error))
            return {}

    def _heal(self, still: list[Place], now_s: float) -> None:
        self._metrics.add("healings", len(still))
        for place in still:
            standing = self._standing[place]
            standing.healings += 1
            standing.since_s = now_s
            if standing.healings > MAX_HEALINGS:
                raise StandsStill(
                    f"{place[0]}/{place[1]} stands still at offset {standing.offset}: records lie beyond it, and reading "
                    f"again from there did not help {MAX_HEALINGS} times. The process ends so that another takes it over"
                )
        places = ", ".join(f"{topic}/{number} at {self._standing[topic, number].offset}" for topic, number in sorted(still))
        self._log.error("partitions stand still", places=places)
        raise TransactionAborted(f"partitions stand still: {places}; they are read again from their committed offsets")
