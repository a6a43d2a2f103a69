"""Which offset of each partition may be committed when work ends out of order: the lowest unfinished one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from streams.rows import Place


class _Partition:
    __slots__ = ("finished", "open", "position")

    def __init__(self, position: int) -> None:
        self.open: deque[int] = deque()  # polled, in order, finished or not
        self.finished: set[int] = set()
        self.position = position  # the offset behind the last polled record

    def lowest_unfinished(self) -> int:
        opened, finished = self.open, self.finished
        if len(finished) == len(opened):  # only open offsets are ever finished, so all of them are
            opened.clear()
            finished.clear()
            return self.position
        while opened and opened[0] in finished:
            finished.discard(opened.popleft())
        return opened[0] if opened else self.position


class OffsetTracker:
    """Offsets polled and finished, by place. Offsets of a place are polled in rising order, with gaps allowed."""

    def __init__(self) -> None:
        self._partitions: dict[Place, _Partition] = {}

    def polled(self, places: list[Place], offsets: list[int]) -> None:
        if places and places.count(places[0]) == len(places):
            self._polled(places[0], offsets)
            return
        for place, offset in zip(places, offsets, strict=True):
            self._polled(place, (offset,))

    def _polled(self, place: Place, offsets: Sequence[int]) -> None:
        partition = self._partitions.get(place)
        if partition is None:
            partition = self._partitions[place] = _Partition(offsets[0])
        partition.open.extend(offsets)
        partition.position = offsets[-1] + 1

    def finish(self, places: list[Place], offsets: list[int]) -> None:
        """Offsets of places that were forgotten in the meantime are ignored."""
        if places and places.count(places[0]) == len(places):
            self._finish(places[0], offsets)
            return
        for place, offset in zip(places, offsets, strict=True):
            self._finish(place, (offset,))

    def _finish(self, place: Place, offsets: Sequence[int]) -> None:
        partition = self._partitions.get(place)
        if partition is not None:
            partition.finished.update(offsets)

    def lowest_unfinished(self, place: Place) -> int | None:
        """None if no record of the place was polled."""
        partition = self._partitions.get(place)
        return None if partition is None else partition.lowest_unfinished()

    def position(self, place: Place) -> int | None:
        """The offset behind the last polled record; None if no record of the place was polled."""
        partition = self._partitions.get(place)
        return None if partition is None else partition.position

    def has_unfinished(self, place: Place) -> bool:
        partition = self._partitions.get(place)
        return partition is not None and len(partition.finished) < len(partition.open)

    def forget(self, place: Place) -> None:
        self._partitions.pop(place, None)

    def clear(self) -> None:
        self._partitions.clear()
