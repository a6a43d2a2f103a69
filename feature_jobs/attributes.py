"""What is known of users and items besides events: the last record of each key of a compacted topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from feature_jobs.settings import FeatureSettings
from schemas.codec import SchemaIds, read_any
from schemas.errors import RetryLater, UndecodableRecord
from schemas.features import View
from streams.broker import Broadcast
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.registry import Registry
from streams.rows import Polled

START_LIMIT_S = 120.0


class Attributes:
    """The last record of each key of a compacted topic, by partition: all of it, in memory."""

    def __init__(self, view: View, topic: Broadcast, ids: SchemaIds) -> None:
        self._key, self._topic, self._ids = f"{view.entity}_id", topic, ids
        self._by_partition: dict[int, dict[str, Mapping[str, Any]]] = {}
        self.take(topic.read_to_end(START_LIMIT_S))

    def take(self, polled: Polled) -> list[tuple[int, str]]:
        """Partition and id of those that changed."""
        changed = []
        for (_, partition), key, value in zip(polled.places, polled.keys, polled.values, strict=True):
            held = self._by_partition.setdefault(partition, {})
            if value is None:
                entity = (key or b"").decode(errors="replace")
                held.pop(entity, None)
            else:
                try:
                    record = read_any(value, self._ids)
                except (UndecodableRecord, RetryLater) as error:
                    structlog.get_logger().warning("attributes not read", key=key, cause=str(error))
                    continue
                entity = record[self._key]
                held[entity] = record
            changed.append((partition, entity))
        return changed

    def poll(self) -> list[tuple[int, str]]:
        return self.take(self._topic.poll())

    def of(self, partition: int, entity: str) -> Mapping[str, Any] | None:
        return self._by_partition.get(partition, {}).get(entity)

    def known(self, partition: int) -> Iterable[str]:
        return self._by_partition.get(partition, {})

    def everything(self) -> dict[str, Mapping[str, Any]]:
        return {entity: record for held in self._by_partition.values() for entity, record in held.items()}


def attributes_now(view: View, settings: FeatureSettings) -> dict[str, Mapping[str, Any]]:
    """What the topic says of each entity now. Raises BrokerUnavailable."""
    topic = KafkaBroadcast(KafkaAddress(bootstrap=settings.bootstrap), view.attributes.name, SystemClock())
    try:
        return Attributes(view, topic, Registry(settings.registry)).everything()
    finally:
        topic.close()
