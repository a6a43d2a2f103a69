"""Which partitions are paused, and why: the loop is full, a retry is not due, or the partition was stopped."""

from __future__ import annotations

from collections.abc import Iterable

from streams.broker import Source
from streams.rows import Place


class Pauses:
    """Keeps the source's paused partitions equal to the reasons for pausing; each call sends only changes.

    The client keeps a pause across revocation and assignment, so whether a partition that was just assigned is paused is unknown
    until `apply` has set it again (confluent-kafka-go #193, librdkafka #1849).
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._paused: set[Place] = set()
        self._unknown: set[Place] = set()
        self._until_s: dict[Place, float] = {}
        self._full = False
        self.stopped: dict[Place, str] = {}  # partitions that were stopped, with the reason

    def hold(self, place: Place, until_s: float) -> None:
        self._until_s[place] = until_s

    def stop(self, place: Place, reason: str) -> None:
        self.stopped[place] = reason

    def start(self, place: Place) -> None:
        self.stopped.pop(place, None)

    def set_full(self, full: bool) -> None:
        self._full = full

    def next_due_in_s(self, now_s: float) -> float | None:
        return max(0.0, min(self._until_s.values()) - now_s) if self._until_s else None

    def holds_back(self, place: Place) -> bool:
        """Whether there is a reason not to read this partition now."""
        return self._full or place in self._until_s or place in self.stopped

    def set_anew(self, places: Iterable[Place]) -> None:
        """Assume nothing about these partitions: the next `apply` pauses or resumes each of them."""
        self._unknown.update(places)

    def forget(self, places: Iterable[Place]) -> None:
        """These partitions belong to another member now."""
        for place in places:
            self._until_s.pop(place, None)
            self.stopped.pop(place, None)

    def apply(self, now_s: float) -> None:
        if not (self._full or self._until_s or self.stopped or self._paused or self._unknown):
            return
        for place in [place for place, until_s in self._until_s.items() if until_s <= now_s]:
            del self._until_s[place]
        assigned = self._source.assignment()
        wanted = assigned if self._full else assigned & (self._until_s.keys() | self.stopped.keys())
        if to_pause := wanted - (self._paused - self._unknown):
            self._source.pause(to_pause)
        if to_resume := ((self._paused | self._unknown) - wanted) & assigned:
            self._source.resume(to_resume)
        self._paused = set(wanted)
        self._unknown.clear()
