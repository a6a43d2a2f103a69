"""Flink's table definitions, generated from the catalogue and the Avro schemas, so that no column is written by hand. Pure
text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas import avro
from schemas.topic_kinds import Record, Topic

_PRIMITIVE = {
    "string": "STRING",
    "bytes": "BYTES",
    "int": "INT",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
}


@dataclass(frozen=True)
class Addresses:
    bootstrap: str
    registry: str


def column_type(kind: Any) -> str:
    """The SQL type of an Avro type. A union with null is a nullable column, any other type is NOT NULL: Flink compares them."""
    match kind:
        case ["null", inner] | [inner, "null"]:
            return column_type(inner).removesuffix(" NOT NULL")
        case str():
            return f"{_PRIMITIVE[kind]} NOT NULL"
        case {"type": "array", "items": items}:
            return f"ARRAY<{column_type(items)}> NOT NULL"
        case {"type": "map", "values": values}:
            return f"MAP<STRING NOT NULL, {column_type(values)}> NOT NULL"
        case {"type": "record", "fields": fields}:
            return f"ROW<{', '.join(map(_column, fields))}> NOT NULL"
    raise ValueError(f"no SQL type for {kind!r}")


def _column(field: Mapping[str, Any]) -> str:
    return f"`{field['name']}` {column_type(field['type'])}"


def _columns(record: str) -> list[str]:
    return [_column(field) for field in avro.schema(record)["fields"]]


def _avro(topic: Topic[Record], record: str, addresses: Addresses) -> dict[str, str]:
    """Format options. With schema and subject given, Flink posts the schema that is already registered and adds no version."""
    return {
        "value.format": "avro-confluent",
        "value.avro-confluent.url": addresses.registry,
        "value.avro-confluent.subject": topic.subject,
        "value.avro-confluent.schema": json.dumps(avro.schema(record)),
    }


def _table(name: str, columns: list[str], options: Mapping[str, str]) -> str:
    said = [f"'{key}' = " + _quoted(value) for key, value in options.items()]
    return f"CREATE TABLE {name} (\n  " + ",\n  ".join(columns) + "\n) WITH (\n  " + ",\n  ".join(said) + "\n)"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def source(name: str, topic: Topic[Record], addresses: Addresses, group: str, computed: Sequence[str] = ()) -> str:
    """A table that reads a topic without the records of aborted transactions; a job that restores nothing begins with the first
    record. computed: further columns, as `name AS expression`."""
    record = topic.record_name
    return _table(
        name,
        [*_columns(record), *computed],
        {
            "connector": "kafka",
            "topic": topic.name,
            "properties.bootstrap.servers": addresses.bootstrap,
            "properties.group.id": group,
            "properties.isolation.level": "read_committed",
            "properties.partition.discovery.interval.ms": "60000",
            "scan.startup.mode": "earliest-offset",
            **_avro(topic, record, addresses),
        },
    )


def sink(name: str, topic: Topic[Record], addresses: Addresses, key: str, *, exactly_once_as: str | None = None) -> str:
    """A table that appends to a topic. exactly_once_as: prefix of the transactional ids; without it, delivery is at least
    once."""
    record = topic.record_name
    guarantee = {"sink.delivery-guarantee": "at-least-once"}
    if exactly_once_as is not None:
        guarantee = {
            "sink.delivery-guarantee": "exactly-once",
            "sink.transactional-id-prefix": exactly_once_as,
            "properties.transaction.timeout.ms": "600000",
        }
    return _table(
        name,
        _columns(record),
        {
            "connector": "kafka",
            "topic": topic.name,
            "properties.bootstrap.servers": addresses.bootstrap,
            "key.format": "raw",
            "key.fields": key,
            **_avro(topic, record, addresses),
            **guarantee,
        },
    )
