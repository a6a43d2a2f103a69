"""The topics that attribution reads beside its input, on Kafka: users' events, from the first answer on that has no label yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from schemas.topics import USER_EVENTS, USER_EVENTS_VALID, VALIDATE
from streams.clock import Clock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import first_times
from streams.rows import Place, Polled


class Events(Protocol):
    """A reader of `user-events-valid-v1`."""

    def poll(self) -> Polled:
        """New events, without waiting; that there are none now does not mean that all were read. Raises BrokerUnavailable."""
        ...

    def present_ends(self) -> Mapping[Place, int]:
        """The offsets after all events that are there now, committed or not yet. Raises BrokerUnavailable."""
        ...

    def has_read(self, ends: Mapping[Place, int]) -> bool:
        """Whether all events before these offsets were returned, or belong to transactions that were aborted."""
        ...

    def close(self) -> None: ...


class AttributionTopics(Protocol):
    def open_events(self, from_ms: int) -> Events:
        """All events since a time. Raises BrokerUnavailable."""
        ...

    def oldest_ms(self, positions: Mapping[Place, int]) -> int | None:
        """The broker's time of the oldest answer at or after these offsets; None if there is none. Raises BrokerUnavailable."""
        ...

    def unvalidated_ms(self) -> int | None:
        """When the oldest event came that the loop `validate` has not taken yet; None if it has taken all. Raises BrokerUnavailable."""
        ...


class KafkaEvents:
    def __init__(self, address: KafkaAddress, clock: Clock, from_ms: int) -> None:
        self._admin, topic = KafkaAdmin(address), USER_EVENTS_VALID.name
        self._places = [(topic, number) for number in range(self._admin.partitions().get(topic, USER_EVENTS_VALID.partitions))]
        starts = self._admin.offsets_at(self._places, from_ms)
        self._reader = KafkaBroadcast(address, topic, clock, starts, [number for _, number in self._places])

    def poll(self) -> Polled:
        return self._reader.poll()

    def present_ends(self) -> Mapping[Place, int]:
        return self._admin.ends(self._places)

    def has_read(self, ends: Mapping[Place, int]) -> bool:
        return self._reader.has_read(ends)

    def close(self) -> None:
        self._reader.close()


class KafkaAttributionTopics:
    def __init__(self, address: KafkaAddress, clock: Clock) -> None:
        self._address, self._clock, self._admin = address, clock, KafkaAdmin(address)

    def open_events(self, from_ms: int) -> KafkaEvents:
        return KafkaEvents(self._address, self._clock, from_ms)

    def oldest_ms(self, positions: Mapping[Place, int]) -> int | None:
        return min(first_times(self._address, positions, self._clock).values(), default=None)

    def unvalidated_ms(self) -> int | None:
        taken = self._admin.committed(VALIDATE.group)
        ends = self._admin.ends([(USER_EVENTS.name, number) for number in range(self._admin.partitions()[USER_EVENTS.name])])
        return self.oldest_ms({place: taken.get(place, 0) for place, end in ends.items() if taken.get(place, 0) < end})
