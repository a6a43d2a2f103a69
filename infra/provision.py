"""Make the broker and the registry equal to `schemas/topics.py`; nobody else creates a topic or registers a schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from schemas import avro
from schemas.durations import DAY_MS
from schemas.errors import SchemaRefused
from schemas.topic_kinds import FOREVER_MS, Consumption, Record, Topic
from schemas.topics import CATALOGUE, CONSUMPTIONS
from streams.kafka.admin import KafkaAdmin, TopicSpec
from streams.loop.deadletter import ROOM_BYTES
from streams.schema_registry import Registry


@dataclass
class Provisioned:
    """What provisioning did, or, when only checking, what it would do."""

    created_topics: list[str] = field(default_factory=list)
    grown_topics: list[str] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def _config(topic: Topic[Record], extra_bytes: int = 0) -> dict[str, str]:
    return {
        "retention.ms": str(topic.retention_ms),
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "message.timestamp.type": "LogAppendTime",  # so that replayed history is not deleted by its age
        "max.message.bytes": str(topic.max_record_bytes + ROOM_BYTES + extra_bytes),
    }


def specs(topics: Iterable[Topic[Record]] = CATALOGUE, consumptions: Iterable[Consumption] = CONSUMPTIONS) -> list[TopicSpec]:
    wanted = [TopicSpec(topic.name, topic.partitions, _config(topic)) for topic in topics]
    for consumption in consumptions:
        source = consumption.topic
        for name in consumption.retry_topics():
            wanted.append(TopicSpec(name, source.partitions, _config(source, ROOM_BYTES)))
        kept = _config(source, ROOM_BYTES) | {"retention.ms": str(FOREVER_MS)}  # a dead letter waits for a person
        wanted.append(TopicSpec(consumption.dead_letter_topic, source.partitions, kept))
    return wanted


def provision(
    admin: KafkaAdmin,
    registry: Registry,
    topics: Iterable[Topic[Record]] = CATALOGUE,
    consumptions: Iterable[Consumption] = CONSUMPTIONS,
    *,
    check_only: bool = False,
) -> Provisioned:
    """Raises SchemaRefused where a schema would break those who read or write its topic; then nothing was created."""
    done = Provisioned()
    topics = list(topics)
    there = admin.partitions()
    consumptions = list(consumptions)
    wanted = specs(topics, consumptions)
    least = least_partitions(consumptions, there)
    missing = [replace(s, partitions=max(s.partitions, least.get(s.name, 0))) for s in wanted if s.name not in there]
    too_few = {name: count for name, count in least.items() if there.get(name, count) < count}
    for spec in wanted:
        if spec.name in there and there[spec.name] != spec.partitions and spec.name not in too_few:
            done.differences.append(f"{spec.name} has {there[spec.name]} partitions, the catalogue says {spec.partitions}")
    for topic in topics:
        if topic.record is not None:
            _schema(registry, topic, done, check_only)
    done.differences += forgetful(int(admin.broker_setting("offsets.retention.minutes")), topics)
    done.grown_topics = sorted(too_few)
    if check_only:
        done.created_topics = [spec.name for spec in missing]
    else:
        done.created_topics = admin.create(missing)
        admin.grow(too_few)
    return done


def forgetful(offsets_retention_minutes: int, topics: Iterable[Topic[Record]]) -> list[str]:
    """What a broker does that forgets the offsets of a group sooner than the records it has read: a group that rests for longer
    begins at the first record again, and answers all of it twice."""
    longest = max(
        (topic for topic in topics if topic.retention_ms != FOREVER_MS), key=lambda topic: topic.retention_ms, default=None
    )
    if longest is None or offsets_retention_minutes * 60_000 >= longest.retention_ms:
        return []
    return [
        f"the broker forgets the offsets of a group that rests for {offsets_retention_minutes / 1440:.0f} days, and {longest.name} is "
        f"kept for {longest.retention_ms / DAY_MS:.0f}: such a group would answer all of it again. Set offsets.retention.minutes to "
        f"at least {longest.retention_ms // 60_000}, or let no group rest for that long"
    ]


def least_partitions(consumptions: Iterable[Consumption], there: Mapping[str, int]) -> dict[str, int]:
    """Of each retry and dead-letter topic: what is written to it keeps the partition's number of the topic it is of."""
    return {
        name: there.get(taken.topic.name, 0)
        for taken in consumptions
        for name in (*taken.retry_topics(), taken.dead_letter_topic)
    }


def _schema(registry: Registry, topic: Topic[Record], done: Provisioned, check_only: bool) -> None:
    record = topic.record_name
    wanted = avro.schema(record)
    latest = registry.latest(topic.subject)
    if latest == wanted:
        return
    done.registered.append(topic.subject)
    if check_only:
        return
    try:
        registry.register(topic.subject, wanted)
    except SchemaRefused as refused:
        raise SchemaRefused(explain(topic, latest or {}, wanted, str(refused))) from refused
    registry.set_compatibility(topic.subject, topic.compatibility.value)


def explain(topic: Topic[Record], latest: dict[str, object], wanted: dict[str, object], said: str) -> str:
    """The registry's refusal in words a person understands: which field, and what would be allowed."""
    old, new = _fields(latest), _fields(wanted)
    causes = []
    for name in sorted(new.keys() - old.keys()):
        if "default" not in new[name]:
            causes.append(f"field {name} is new and has no default: old records could not be read")
    for name in sorted(old.keys() - new.keys()):
        if "default" not in old[name]:
            causes.append(f"field {name} is gone and had no default: those who still read it would fail")
    for name in sorted(old.keys() & new.keys()):
        if old[name]["type"] != new[name]["type"]:
            causes.append(f"field {name} changed from {old[name]['type']} to {new[name]['type']}")
    if not causes:
        causes.append(re.sub(r"\b(?:[\w$]+\.)+(\w+)", r"\1", said))
    return (
        f"the new schema of {topic.name} would break readers or writers ({topic.compatibility.value}): "
        + "; ".join(causes)
        + ". Give new fields a default, keep old ones, or make a new topic with the next version"
    )


def _fields(schema: dict[str, object]) -> dict[str, dict[str, object]]:
    fields = schema.get("fields", [])
    assert isinstance(fields, list)
    return {field["name"]: field for field in fields}
