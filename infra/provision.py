"""Creates the topics and registers the schemas of `schemas/topics.py`. No other code creates a topic or registers a schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from schemas import avro
from schemas.catalogue import catalogue
from schemas.durations import DAY_MS, MINUTE_MS
from schemas.errors import SchemaRefused
from schemas.topic_kinds import FOREVER_MS, Consumption, Record, Topic
from streams.kafka.admin import KafkaAdmin, TopicSpec
from streams.loop.deadletter import ROOM_BYTES
from streams.schema_registry import Registry


@dataclass
class Provisioned:
    """The changes that provisioning made, or would make if it only checks."""

    created_topics: list[str] = field(default_factory=list)
    grown_topics: list[str] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def _config(topic: Topic[Record], extra_bytes: int = 0) -> dict[str, str]:
    return {
        "retention.ms": str(topic.retention_ms),
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "message.timestamp.type": "LogAppendTime",  # so that replayed records with old event times are kept for the full retention
        "max.message.bytes": str(topic.max_record_bytes + ROOM_BYTES + extra_bytes),
    }


def specs(topics: Iterable[Topic[Record]] | None = None, consumptions: Iterable[Consumption] | None = None) -> list[TopicSpec]:
    """By default all topics of this installation."""
    topics = catalogue().topics if topics is None else topics
    consumptions = catalogue().consumptions if consumptions is None else consumptions
    expected = [TopicSpec(topic.name, topic.partitions, _config(topic)) for topic in topics]
    for consumption in consumptions:
        source = consumption.topic
        for name in consumption.retry_topics():
            expected.append(TopicSpec(name, source.partitions, _config(source, ROOM_BYTES)))
        config = _config(source, ROOM_BYTES) | {
            "retention.ms": str(FOREVER_MS)
        }  # a dead letter is kept until a person handles it
        expected.append(TopicSpec(consumption.dead_letter_topic, source.partitions, config))
    return expected


def provision(
    admin: KafkaAdmin,
    registry: Registry,
    topics: Iterable[Topic[Record]] | None = None,
    consumptions: Iterable[Consumption] | None = None,
    *,
    check_only: bool = False,
) -> Provisioned:
    """topics, consumptions: by default all of this installation. Raises SchemaRefused if a schema would break readers or writers of its
    topic; then no topic was created."""
    done = Provisioned()
    topics = list(catalogue().topics if topics is None else topics)
    consumptions = list(catalogue().consumptions if consumptions is None else consumptions)
    there = admin.partitions()
    wanted = specs(topics, consumptions)
    least = least_partitions(consumptions, there)
    missing = [replace(s, partitions=max(s.partitions, least.get(s.name, 0))) for s in wanted if s.name not in there]
    too_few = {name: count for name, count in least.items() if there.get(name, count) < count}
    for spec in wanted:
        if spec.name in there and there[spec.name] != spec.partitions and spec.name not in too_few:
            done.differences.append(
                f"{spec.name} has {there[spec.name]} partitions instead of {spec.partitions} as in the catalogue"
            )
    done.differences += other_retention([spec for spec in wanted if spec.name in there], admin)
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


def other_retention(specs: Sequence[TopicSpec], admin: KafkaAdmin) -> list[str]:
    """How long topics that were there keep their records, where the catalogue or a declaration says otherwise by now. It is not changed
    here: a shorter time deletes records."""
    found = admin.config_of([spec.name for spec in specs]) if specs else {}
    return [
        f"{spec.name} has retention.ms {found[spec.name]['retention.ms']} instead of {spec.config['retention.ms']} as in the catalogue: "
        "change it on the broker"
        for spec in specs
        if found[spec.name]["retention.ms"] != spec.config["retention.ms"]
    ]


def forgetful(offsets_retention_minutes: int, topics: Iterable[Topic[Record]]) -> list[str]:
    """A warning if the broker deletes a stopped group's offsets before the records that it has read: the group would start
    again at the first record and answer everything twice. Empty if there is no such risk."""
    longest = max(
        (topic for topic in topics if topic.retention_ms != FOREVER_MS), key=lambda topic: topic.retention_ms, default=None
    )
    if longest is None or offsets_retention_minutes * MINUTE_MS >= longest.retention_ms:
        return []
    return [
        f"the broker deletes the offsets of a group that is stopped for {offsets_retention_minutes / 1440:.0f} days, but keeps "
        f"{longest.name} for {longest.retention_ms / DAY_MS:.0f} days: such a group would answer all of it again. Set "
        f"offsets.retention.minutes to at least {longest.retention_ms // MINUTE_MS}, or stop no group for that long"
    ]


def least_partitions(consumptions: Iterable[Consumption], there: Mapping[str, int]) -> dict[str, int]:
    """Minimum number of partitions of each retry and dead-letter topic: a record keeps the partition number of its source
    topic."""
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


def explain(topic: Topic[Record], latest: dict[str, object], wanted: dict[str, object], refusal: str) -> str:
    """The registry's refusal as text for people: the field that is the cause, and the change that is allowed."""
    old, new = _fields(latest), _fields(wanted)
    causes = []
    for name in sorted(new.keys() - old.keys()):
        if "default" not in new[name]:
            causes.append(f"field {name} is new and has no default: old records could not be read")
    for name in sorted(old.keys() - new.keys()):
        if "default" not in old[name]:
            causes.append(f"field {name} was removed and had no default: its readers would fail")
    for name in sorted(old.keys() & new.keys()):
        if old[name]["type"] != new[name]["type"]:
            causes.append(f"field {name} changed from {old[name]['type']} to {new[name]['type']}")
    if not causes:
        causes.append(re.sub(r"\b(?:[\w$]+\.)+(\w+)", r"\1", refusal))
    return (
        f"the new schema of {topic.name} would break readers or writers ({topic.compatibility.value}): "
        + "; ".join(causes)
        + ". Give new fields a default, keep old ones, or make a new topic with the next version"
    )


def _fields(schema: dict[str, object]) -> dict[str, dict[str, object]]:
    fields = schema.get("fields", [])
    assert isinstance(fields, list)
    return {field["name"]: field for field in fields}
