"""Writes single records of a topic, for side streams, commands and controllers; batches go through `Encoder` and `cloud_event`."""

from __future__ import annotations

from typing import Any

from schemas.codec import Encoder, SchemaIds
from schemas.topic_kinds import Record, Topic
from streams.headers import cloud_event
from streams.rows import OutRecords


class RecordWriter:
    """source: the process or command that writes, as the CloudEvents header `ce_source` has it. Raises SchemaRefused where the topic's
    schema was not provisioned."""

    def __init__(self, topic: Topic[Record], registry: SchemaIds, source: str) -> None:
        self._topic, self._encoder, self._source = topic, Encoder.of(topic, registry), source

    def of(self, record: Any, key: str, event_id: str) -> OutRecords:
        """record: a generated dataclass of the topic's kind. event_id: the same for each writing of the same event, so that readers can
        tell a repeat."""
        headers = cloud_event([event_id], self._topic.record_name, self._source)
        return OutRecords(self._topic.name, [key.encode()], [self._encoder.encode_one(record)], headers)
