"""Event ids of the last while, for telling repeats: by partition, with the time and the place of each. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

READ_BACK = -1  # in place of an offset: of an id that was read back from what is committed
_NOTHING: Mapping[str, tuple[int, int]] = {}


@dataclass(slots=True)
class _Partition:
    """ids: by id, the broker's time and the offset of the event. safe_ms: no later than the time of any event in flight."""

    ids: OrderedDict[str, tuple[int, int]] = field(default_factory=OrderedDict)
    newest_ms: int = 0
    safe_ms: int = 0
    marked_ms: int = 0
    since_mark: int = 0


class Seen:
    """Bounded by the window and by `max_ids` a partition, oldest out first.

    An id remembers where its event lies. An event that is read again after an abort meets itself, at its own offset, and is no
    repeat of itself: so what an aborted batch left behind does no harm and need not be taken out. in_flight: how many events may
    be read and not yet committed; so many of the newest do not push older ones out, as reading may go back by as many.
    """

    def __init__(self, window_ms: int, max_ids: int = 5_000_000, in_flight: int = 0) -> None:
        self.window_ms, self._max_ids, self._in_flight = window_ms, max_ids, in_flight
        self._partitions: dict[int, _Partition] = {}

    def knows(self, partition: int) -> bool:
        """Whether the partition is held: what was added of it since stands."""
        return partition in self._partitions

    def has(self, partition: int, event_id: str, at_ms: int, offset: int) -> bool:
        """Whether another event with the id came in this partition less than a window from at_ms."""
        held = self._partitions.get(partition)
        seen = (_NOTHING if held is None else held.ids).get(event_id)
        if seen is None or seen[1] == offset:
            return False
        # What was read back bears the time of our output, which may be much later than that of the event.
        return at_ms - seen[0] < self.window_ms and (seen[1] == READ_BACK or seen[0] - at_ms < self.window_ms)

    def add(self, partition: int, events: Iterable[tuple[str, int, int]]) -> None:
        """Ids with the broker's time and the offset of each."""
        held = self._partitions.setdefault(partition, _Partition())
        for event_id, at_ms, offset in events:
            held.ids.pop(event_id, None)
            held.ids[event_id] = at_ms, offset
            held.newest_ms = max(held.newest_ms, at_ms)
            held.since_mark += 1
        if held.since_mark >= self._in_flight:
            held.safe_ms, held.marked_ms, held.since_mark = held.marked_ms, held.newest_ms, 0
        if not self._in_flight:
            held.safe_ms = held.newest_ms
        edge_ms = held.safe_ms - self.window_ms
        while held.ids and (len(held.ids) > self._max_ids or next(iter(held.ids.values()))[0] <= edge_ms):
            held.ids.popitem(last=False)

    def clear(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._partitions.pop(partition, None)

    def __len__(self) -> int:
        return sum(len(held.ids) for held in self._partitions.values())
