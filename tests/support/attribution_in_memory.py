"""The topics that attribution reads, in memory. Like Kafka's client, a poll may return nothing although events are there."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.errors import BrokerUnavailable
from schemas.topics import USER_EVENTS_VALID
from streams.memory.cluster import MemoryBroker
from streams.rows import Place, Polled


class MemoryEvents:
    """from_ms: the time of the first event that is read. empty_polls: so many polls return nothing before the first event."""

    def __init__(self, broker: MemoryBroker, from_ms: int, empty_polls: int) -> None:
        self._broker, self._from_ms, self.empty_polls = broker, from_ms, empty_polls
        self._positions = {place: 0 for place in broker.logs if place[0] == USER_EVENTS_VALID.name}

    def poll(self) -> Polled:
        self.empty_polls -= 1
        polled = Polled()
        if self.empty_polls >= 0:
            return polled
        for place, position in self._positions.items():
            self._positions[place] = self._broker.stable_end(place)
            for offset, entry in self._broker.visible(place, position, 1_000_000):
                if entry.timestamp_ms >= self._from_ms:
                    polled.extend(
                        Polled(
                            places=[place],
                            offsets=[offset],
                            keys=[entry.key],
                            values=[entry.value],
                            headers=[entry.headers],
                            timestamps_ms=[entry.timestamp_ms],
                        )
                    )
        return polled

    def present_ends(self) -> Mapping[Place, int]:
        return {place: len(self._broker.logs[place]) for place in self._positions}

    def has_read(self, ends: Mapping[Place, int]) -> bool:
        return all(self._positions[place] >= end for place, end in ends.items())

    def close(self) -> None: ...


class MemoryAttributionTopics:
    """oldest: the broker's time of the first unread answer. asked: how often it was asked for. unvalidated: that of the oldest event
    that was not validated."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.broker, self.empty_polls, self.asked = broker, 0, 0
        self.oldest: int | None = 0
        self.unvalidated: int | None = None
        self.down = False
        self.events: MemoryEvents | None = None

    def open_events(self, from_ms: int) -> MemoryEvents:
        self.events = MemoryEvents(self.broker, from_ms, self.empty_polls)
        return self.events

    def oldest_ms(self, positions: Mapping[Place, int]) -> int | None:
        self.asked += 1
        if self.down:
            raise BrokerUnavailable("down")
        return self.oldest

    def unvalidated_ms(self) -> int | None:
        return self.unvalidated
