"""Recent event ids by partition, each with its times and offsets, to recognise repeats. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

READ_BACK = -1  # replaces the offset of an id that was read back from our committed output
# broker times and offsets of one id's events that passed, each at least a window after the one before
Places = tuple[tuple[int, int], ...]
_NOTHING: Mapping[str, Places] = {}


@dataclass(slots=True)
class _Partition:
    """ids: in the order of each id's last event. safe_ms: a lower bound of the times of events in flight. mark: an offset, and
    the newest time up to it."""

    ids: OrderedDict[str, Places] = field(default_factory=OrderedDict)
    newest_ms: int = 0
    safe_ms: int = 0
    mark: tuple[int, int] = 0, 0


class Seen:
    """Event ids within a time window, at most `max_ids` per partition; the oldest are dropped first.

    An id keeps the offsets of its events. An event that is read again after an abort has the same offset, so it is not a repeat.
    Therefore ids of an aborted batch do no harm and need not be removed. They also do not displace ids that earlier events need.

    in_flight: maximum number of offsets between the committed offset and the last one read. Ids are kept that much longer,
    because reading may go back that far.
    """

    def __init__(self, window_ms: int, max_ids: int = 5_000_000, in_flight: int = 0) -> None:
        self.window_ms, self._max_ids, self._in_flight = window_ms, max_ids, in_flight
        self._partitions: dict[int, _Partition] = {}

    def knows(self, partition: int) -> bool:
        """Whether ids of the partition were added and not cleared afterwards."""
        return partition in self._partitions

    def has(self, partition: int, event_id: str, at_ms: int, offset: int) -> bool:
        """Whether another event with this id was added for this partition, less than a window from at_ms."""
        held = self._partitions.get(partition)
        # An id that was read back has the time of our output, which may be much later than the event's time.
        return any(
            seen_at != offset and at_ms - seen_ms < self.window_ms and (seen_at == READ_BACK or seen_ms - at_ms < self.window_ms)
            for seen_ms, seen_at in (_NOTHING if held is None else held.ids).get(event_id, ())
        )

    def add(self, partition: int, events: Iterable[tuple[str, int, int]]) -> None:
        """events: id, broker time in ms and offset of each."""
        held = self._partitions.setdefault(partition, _Partition())
        edge_ms = held.safe_ms - self.window_ms
        for event_id, at_ms, offset in events:
            before = held.ids.pop(event_id, ())
            held.ids[event_id] = (*(place for place in before if place[0] > edge_ms and place[1] != offset), (at_ms, offset))
            if offset == READ_BACK:
                continue
            held.newest_ms = max(held.newest_ms, at_ms)
            if offset - held.mark[0] >= self._in_flight:
                held.safe_ms, held.mark = held.mark[1], (offset, held.newest_ms)
        if not self._in_flight:
            held.safe_ms = held.newest_ms
        edge_ms = held.safe_ms - self.window_ms
        while held.ids and (len(held.ids) > self._max_ids or next(iter(held.ids.values()))[-1][0] <= edge_ms):
            held.ids.popitem(last=False)

    def clear(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._partitions.pop(partition, None)

    def __len__(self) -> int:
        return sum(len(held.ids) for held in self._partitions.values())
