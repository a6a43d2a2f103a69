"""Attributes of users and items besides events, from their compacted topics. A profile may be in another partition than its user's
events; `streams/newest_records.py` says why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feature_jobs.settings import FeatureSettings
from schemas.codec import SchemaIds
from schemas.features import View
from streams.broker import Broadcast
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.newest_records import NewestRecords
from streams.schema_registry import Registry

Attributes = NewestRecords[Mapping[str, Any]]


def attributes_of(view: View, topic: Broadcast, ids: SchemaIds) -> Attributes:
    """All attributes of a view's entities. Raises BrokerUnavailable."""
    assert view.attributes is not None
    key = f"{view.entity}_id"
    return NewestRecords(view.attributes, topic, ids, lambda record: (str(record[key]), record))


def attributes_now(view: View, settings: FeatureSettings) -> dict[str, Mapping[str, Any]]:
    """The topic's current record of each entity. Raises BrokerUnavailable."""
    return attributes_read(view, KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry))


def attributes_read(view: View, address: KafkaAddress, ids: SchemaIds) -> dict[str, Mapping[str, Any]]:
    """The topic's current record of each entity. Raises BrokerUnavailable."""
    assert view.attributes is not None
    topic = KafkaBroadcast(address, view.attributes.name, SystemClock())
    try:
        return attributes_of(view, topic, ids).everything()
    finally:
        topic.close()
