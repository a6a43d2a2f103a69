"""A topic: its partitions, settings and schema; the records that may be produced to it, and producing one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from infra.monitor import forms, permits, pipeline
from infra.monitor.actions import Produced
from infra.monitor.pipeline import TopicAbout
from infra.monitor.routes.shared_parts import Body, Operator, Payload, Shown, TheMonitor, TopicName
from schemas import avro
from schemas.errors import InvalidRequest
from streams.kafka.admin import KafkaAdmin

router = APIRouter(default_response_class=Shown)


HeaderName = Annotated[str, Field(max_length=128)]
HeaderText = Annotated[str, Field(max_length=8_192)]


@dataclass(frozen=True)
class PartitionNow:
    """first: the oldest offset that is kept. end: the next one that is written. groups: positions of those that committed there."""

    partition: int
    first: int
    end: int
    groups: dict[str, int]


@dataclass(frozen=True)
class TopicPage:
    """about: null for a topic that is not ours. config: as the broker has it. schema: the newest, null where the topic has none of its
    own."""

    topic: str
    about: TopicAbout | None
    config: dict[str, str]
    partitions: list[PartitionNow]
    schema: Any
    schema_version: int | None


@dataclass(frozen=True)
class ProduceForm:
    """schema: the newest. examples: records of it, by name. example: a value that the schema takes."""

    schema: Any
    version: int
    examples: dict[str, Any]
    example: Any


class Produce(Body):
    key: Annotated[str, Field(max_length=4_096)] = ""
    value: dict[str, Any]
    headers: Annotated[dict[HeaderName, HeaderText], Field(default_factory=dict)]


@router.get("/api/topics/{topic}")
def topic_page(monitor: TheMonitor, topic: TopicName) -> TopicPage:
    """Partitions with their bounds and the positions of groups, the settings that the broker has, the schema's newest version."""
    bounds = monitor.bounds(topic)
    about = pipeline.about(topic)
    newest = monitor.ids.newest(about.subject) if about else None
    committed = monitor.sampler.offsets.committed(topic)
    partitions = [
        PartitionNow(number, low, high, {group: at[number] for group, at in committed.items() if number in at})
        for (_, number), (low, high) in sorted(bounds.items())
    ]
    config = KafkaAdmin(monitor.address).config_of([topic])[topic]
    return TopicPage(topic, about, config, partitions, newest[2] if newest else None, newest[0] if newest else None)


@router.get("/api/topics/{topic}/form", response_class=Payload)
def produce_form(monitor: TheMonitor, topic: TopicName) -> ProduceForm:
    """The newest schema, and values that it takes."""
    about = pipeline.about(topic)
    newest = monitor.ids.newest(about.subject) if about else None
    if about is None or newest is None:
        raise InvalidRequest(f"nothing can be produced to {topic}: what it holds is not said by a schema of its own")
    version, _, schema = newest
    examples = {} if about.record is None else avro.examples(about.record)
    return ProduceForm(schema, version, examples, forms.example(schema))


@router.post("/api/topics/{topic}/records")
def produce(monitor: TheMonitor, topic: TopicName, body: Produce, actor: Operator) -> Produced:
    """One record on a topic that people outside write."""
    return monitor.actions.produce(permits.producible(topic), body.key, body.value, body.headers, actor)
