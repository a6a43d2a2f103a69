"""Which partitions are paused, and why: the loop is full, a retry is not due, or the partition was stopped."""

from __future__ import annotations

from collections.abc import Iterable

from streams.broker import Source
from streams.rows import Place


class Pauses:
    """Keeps the source's paused partitions equal to the reasons there are; each call does only what changed."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._paused: set[Place] = set()
        self._until_s: dict[Place, float] = {}
        self._full = False
        self.stopped: dict[Place, str] = {}  # partitions that wait for a person, and why

    def hold(self, place: Place, until_s: float) -> None:
        self._until_s[place] = until_s

    def stop(self, place: Place, reason: str) -> None:
        self.stopped[place] = reason

    def set_full(self, full: bool) -> None:
        self._full = full

    def next_due_in_s(self, now_s: float) -> float | None:
        return max(0.0, min(self._until_s.values()) - now_s) if self._until_s else None

    def forget(self, places: Iterable[Place]) -> None:
        for place in places:
            self._until_s.pop(place, None)
            self.stopped.pop(place, None)
            self._paused.discard(place)

    def apply(self, now_s: float) -> None:
        if not (self._full or self._until_s or self.stopped or self._paused):
            return
        for place in [place for place, until_s in self._until_s.items() if until_s <= now_s]:
            del self._until_s[place]
        assigned = self._source.assignment()
        wanted = assigned if self._full else assigned & (self._until_s.keys() | self.stopped.keys())
        if wanted - self._paused:
            self._source.pause(wanted - self._paused)
        if self._paused - wanted:
            self._source.resume((self._paused - wanted) & assigned)
        self._paused = set(wanted)
