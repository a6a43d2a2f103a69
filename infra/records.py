"""Decoded records for people, and all records of one request: for the command line and the monitor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas import avro
from schemas.catalogue import catalogue
from schemas.codec import HEAD_BYTES, SchemaIds, schema_id_of
from schemas.decoding import decode_one
from schemas.errors import MillraceError
from schemas.topics import SHADOW_RESULTS
from schemas.writer_schemas import writer_of
from streams.clock import SystemClock
from streams.ids import time_ms_of
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.rows import Polled

READ_LIMIT_S = 15.0
EARLIER_MS = 5_000  # allowance for different clocks of producers and broker


def decoded(polled: Polled, registry: SchemaIds) -> list[dict[str, Any]]:
    """If a record cannot be decoded, its value is the reason, in `not_decoded`, and its size in `bytes`."""
    return [decoded_one(polled, i, registry) for i in range(len(polled))]


def decoded_one(polled: Polled, i: int, registry: SchemaIds) -> dict[str, Any]:
    raw = polled.values[i]
    try:
        value: Any = _as_written(raw, registry)
    except MillraceError as error:
        value = {"not_decoded": str(error), "bytes": len(raw or b"")}
    return {
        "topic": polled.places[i][0],
        "partition": polled.places[i][1],
        "offset": polled.offsets[i],
        "timestamp_ms": polled.timestamps_ms[i],
        "key": (polled.keys[i] or b"").decode(errors="replace"),
        "headers": {name: (raw or b"").decode(errors="replace") for name, raw in polled.headers[i] or ()},
        "value": value,
    }


def _as_written(value: bytes | None, registry: SchemaIds) -> Any:
    """Logical types stay the numbers and bytes that were written, so that a displayed record can be sent again unchanged."""
    schema = writer_of(registry.schema_of(schema_id_of(value))).plain
    return decode_one((value or b"")[HEAD_BYTES:], schema, schema)


def readable(value: Any) -> Any:
    """Text for a value that JSON cannot express; the `default` of `json.dumps`."""
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class Way:
    """records: all that contain a request's id, in time order. whole: whether every topic was read to its end."""

    records: list[dict[str, Any]]
    whole: bool


def way(address: KafkaAddress, registry: SchemaIds, request_id: str, limit_s: float = READ_LIMIT_S) -> Way:
    """Reads the records that are committed by now; an open transaction does not delay it. A UUIDv7 contains the time to start
    reading from; for any other id all kept records are read. Raises BrokerUnavailable."""
    at_ms, admin, clock = time_ms_of(request_id), KafkaAdmin(address), SystemClock()
    there = admin.partitions()
    places = [(name, n) for name in topics_of_requests() for n in range(there.get(name, 0))]
    ends = admin.ends(places)
    starts = admin.firsts(places) if at_ms is None else admin.offsets_at(places, max(0, at_ms - EARLIER_MS))
    names = sorted({place[0] for place in places if starts[place] < ends[place]})
    reader = KafkaBroadcast(address, names, clock, starts)
    matching, until_s = list[dict[str, Any]](), clock.monotonic_s() + limit_s
    try:
        while not reader.at_end() and clock.monotonic_s() < until_s:
            part = reader.wait(0.2)
            matching += [
                record for record in decoded(part.take(_rows_with(part, request_id)), registry) if _names(record, request_id)
            ]
        return Way(sorted(matching, key=lambda record: record["timestamp_ms"]), reader.at_end())
    finally:
        reader.close()


def topics_of_requests() -> list[str]:
    """Topics whose records carry a request id, in the header (inputs of tasks) or in a field; with their retry and dead-letter topics."""
    known = catalogue()
    inputs = {consumption.topic.name for consumption in known.tasks}
    with_field = {topic.name for topic in known.topics if topic.record is not None and _has_id(topic.record_name)}
    names = [topic.name for topic in known.topics if topic.name in inputs | with_field | {SHADOW_RESULTS.name}]
    for consumption in known.consumptions:
        if consumption.topic.name in names:
            names += [*consumption.retry_topics(), consumption.dead_letter_topic]
    return names


def _has_id(record: str) -> bool:
    return any(field["name"] in ("request_id", "request_ids") for field in avro.schema(record)["fields"])


def _rows_with(polled: Polled, request_id: str) -> list[int]:
    """Rows whose bytes contain the id, so that only few are decoded. Avro writes a text as its UTF-8 bytes."""
    raw = request_id.encode()
    return [
        i
        for i, (value, headers) in enumerate(zip(polled.values, polled.headers, strict=True))
        if raw in (value or b"") or any(text == raw for _, text in headers or ())
    ]


def _names(record: dict[str, Any], request_id: str) -> bool:
    value = record["value"]
    if not isinstance(value, dict):
        return bool(request_id == record["headers"].get("ce_id"))
    if isinstance(value.get("request_ids"), list):
        return request_id in value["request_ids"]
    return request_id in (record["headers"].get("ce_id"), value.get("request_id"))
