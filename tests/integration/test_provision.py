"""Provisioning on a real broker and registry: made once, checked after, and a breaking schema refused in words."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from infra.provision import provision
from schemas import avro
from schemas.errors import SchemaRefused
from schemas.topic_kinds import Consumption
from schemas.topics import CATALOGUE, CONTENT
from streams.kafka.admin import KafkaAdmin
from streams.schema_registry import Registry
from tests.conftest import Servers

pytestmark = pytest.mark.real


@dataclass
class Changed:
    RECORD: ClassVar[str] = "content"


def test_what_is_there_is_left_alone_and_config_is_as_the_catalogue_says(servers: Servers) -> None:
    admin, registry = KafkaAdmin(servers.address), Registry(servers.registry)
    again = provision(admin, registry)
    assert (again.created_topics, again.registered, again.differences) == ([], [], [])
    config = admin.config_of([topic.name for topic in CATALOGUE])
    assert {found["message.timestamp.type"] for found in config.values()} == {"LogAppendTime"}
    for topic in CATALOGUE:
        if topic.record is not None:
            assert registry.compatibility(topic.subject) == topic.compatibility.value


def test_a_schema_that_would_break_readers_is_refused_and_nothing_is_made(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, registry = KafkaAdmin(servers.address), Registry(servers.registry)
    broken: dict[str, Any] = avro.schema("content")
    broken = {**broken, "fields": [*broken["fields"], {"name": "language", "type": "string"}]}
    monkeypatch.setattr(avro, "schema", lambda record, version=None: broken)
    topic = replace(CONTENT, record=Changed)  # type: ignore[arg-type]
    with pytest.raises(SchemaRefused, match="field language is new and has no default"):
        provision(admin, registry, [topic], [])
    assert len(registry.latest(CONTENT.subject)["fields"]) == 6  # type: ignore[index]


def test_a_difference_in_partitions_is_told(servers: Servers) -> None:
    wider = replace(CONTENT, partitions=8)
    found = provision(KafkaAdmin(servers.address), Registry(servers.registry), [wider], [], check_only=True)
    assert found.differences == ["content-v1 has 4 partitions instead of 8 as in the catalogue"]


def test_another_retention_is_told(servers: Servers) -> None:
    longer = replace(CONTENT, retention_ms=CONTENT.retention_ms * 2)
    found = provision(KafkaAdmin(servers.address), Registry(servers.registry), [longer], [], check_only=True)
    (said,) = found.differences
    assert said.startswith(f"content-v1 has retention.ms {CONTENT.retention_ms} instead of {longer.retention_ms}")


def test_retry_and_dead_letter_topics_get_as_many_partitions_as_their_source(servers: Servers) -> None:
    admin, registry = KafkaAdmin(servers.address), Registry(servers.registry)
    topic = replace(CONTENT, name=f"grown-{uuid.uuid4().hex[:8]}-v1", record=None)
    taken = Consumption(topic=topic, group="grown", retry_delays_ms=(1_000,))
    provision(admin, registry, [topic], [taken])
    admin.grow({topic.name: 7})
    done = provision(admin, registry, [topic], [taken])
    derived = [*taken.retry_topics(), taken.dead_letter_topic]
    assert done.grown_topics == sorted(derived)
    there = admin.partitions()
    assert [there[name] for name in derived] == [7, 7]
