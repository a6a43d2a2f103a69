"""Attributes of users and items besides events: the newest record of each in a compacted topic, in whichever partition.

Clients partition keys by different rules (Java by murmur2, librdkafka by CRC-32), so a profile may be in another partition than
its user's events. Two clients with different rules leave a user's records in two partitions; of these, the newest by the broker's
clock counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from feature_jobs.settings import FeatureSettings
from schemas.codec import Decoder, SchemaIds
from schemas.errors import BrokerUnavailable, RetryLater
from schemas.features import View
from streams.broker import Broadcast
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.rows import Polled
from streams.schema_registry import Registry

START_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class _Held:
    """record: None if its last record was a deletion."""

    at_ms: int
    partition: int
    record: Mapping[str, Any] | None


class Attributes:
    """All of a compacted topic, in memory."""

    def __init__(self, view: View, topic: Broadcast, ids: SchemaIds) -> None:
        assert view.attributes is not None
        self._key, self._topic = f"{view.entity}_id", topic
        self._decoder = Decoder.of(view.attributes, ids)
        self._held: dict[str, _Held] = {}
        self._waiting = Polled()  # records not decoded yet, because the registry did not answer
        self.take(topic.read_to_end(START_LIMIT_S))

    def take(self, polled: Polled) -> list[tuple[int, str]]:
        """Add records; partition and id of the entities that changed."""
        self._waiting.extend(polled)
        if not len(self._waiting):
            return []
        try:
            columns, errors = self._decoder.decode(self._waiting.values)
        except RetryLater as error:
            structlog.get_logger().warning("attributes wait for the registry", records=len(self._waiting), cause=str(error))
            return []
        polled, self._waiting = self._waiting, Polled()
        records = iter(columns.records())
        changed = []
        for row, value in enumerate(polled.values):
            record = None if row in errors else next(records)
            if value is not None and record is None:
                structlog.get_logger().warning("attributes not read", key=polled.keys[row], cause=str(errors[row]))
                continue
            entity = (polled.keys[row] or b"").decode(errors="replace") if record is None else str(record[self._key])
            held, partition, at_ms = self._held.get(entity), polled.places[row][1], polled.timestamps_ms[row]
            if held is None or held.at_ms <= at_ms:
                self._held[entity] = _Held(at_ms, partition, record)
                changed.append((partition, entity))
        return changed

    def poll(self) -> list[tuple[int, str]]:
        return self.take(self._topic.poll())

    def of(self, entity: str) -> Mapping[str, Any] | None:
        held = self._held.get(entity)
        return None if held is None else held.record

    def known(self, partition: int) -> Iterable[str]:
        """The entities whose newest record is in the partition."""
        return [entity for entity, held in self._held.items() if held.partition == partition and held.record is not None]

    def everything(self) -> dict[str, Mapping[str, Any]]:
        """The record of each entity. Raises BrokerUnavailable if the registry has not answered yet."""
        if len(self._waiting):
            raise BrokerUnavailable(f"the registry did not answer: {len(self._waiting)} records of attributes were not read")
        return {entity: held.record for entity, held in self._held.items() if held.record is not None}


def attributes_now(view: View, settings: FeatureSettings) -> dict[str, Mapping[str, Any]]:
    """The topic's current record of each entity. Raises BrokerUnavailable."""
    assert view.attributes is not None
    topic = KafkaBroadcast(KafkaAddress(bootstrap=settings.bootstrap), view.attributes.name, SystemClock())
    try:
        return Attributes(view, topic, Registry(settings.registry)).everything()
    finally:
        topic.close()
