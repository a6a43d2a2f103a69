"""Records as people read them, and one request's way through the topics: for the command line and the monitor alike."""

from __future__ import annotations

from typing import Any

from schemas.codec import SchemaIds, read_any
from schemas.errors import MillraceError
from schemas.topics import CONSUMPTIONS, LABELS, PREDICTION_LOG, PREDICTION_OUTCOMES, SHADOW_RESULTS
from streams.clock import SystemClock
from streams.ids import time_ms_of
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.rows import Place, Polled

READ_LIMIT_S = 15.0
EARLIER_MS = 5_000  # clocks of producers and broker differ


def decoded(polled: Polled, ids: SchemaIds) -> list[dict[str, Any]]:
    """One that does not decode has `not_decoded`, which says why, in the place of its value."""
    return [decoded_one(polled, i, ids) for i in range(len(polled))]


def decoded_one(polled: Polled, i: int, ids: SchemaIds) -> dict[str, Any]:
    raw = polled.values[i]
    try:
        value: Any = read_any(raw, ids)
    except MillraceError as error:
        value = {"not_decoded": str(error), "bytes": len(raw or b"")}
    return {
        "topic": polled.places[i][0], "partition": polled.places[i][1], "offset": polled.offsets[i],
        "timestamp_ms": polled.timestamps_ms[i],
        "key": (polled.keys[i] or b"").decode(errors="replace"),
        "headers": {name: raw.decode(errors="replace") for name, raw in polled.headers[i] or ()},
        "value": value,
    }  # fmt: skip


def readable(value: Any) -> Any:
    """What JSON cannot spell, for `json.dumps`."""
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


def way(address: KafkaAddress, ids: SchemaIds, request_id: str) -> list[dict[str, Any]]:
    """Every record that names the request, in time order. A UUIDv7 tells where to start reading; any other id is looked for in
    all that is kept. Raises BrokerUnavailable where a topic is not read in READ_LIMIT_S."""
    at_ms, admin = time_ms_of(request_id), KafkaAdmin(address)
    names = _topics_of_requests()
    start: str | dict[Place, int] = "first"
    if at_ms is not None:
        there = admin.partitions()
        start = admin.offsets_at([(name, n) for name in names for n in range(there.get(name, 0))], max(0, at_ms - EARLIER_MS))
    reader = KafkaBroadcast(address, names, SystemClock(), start)
    try:
        found = [record for record in decoded(reader.read_to_end(READ_LIMIT_S), ids) if _names(record, request_id)]
    finally:
        reader.close()
    return sorted(found, key=lambda record: record["timestamp_ms"])


def _topics_of_requests() -> list[str]:
    names: list[str] = []
    for taken in CONSUMPTIONS:
        names += [taken.topic.name, *taken.retry_topics(), taken.dead_letter_topic]
        if taken.results is not None:
            names.append(taken.results.name)
    return list(dict.fromkeys([*names, LABELS.name, PREDICTION_LOG.name, PREDICTION_OUTCOMES.name, SHADOW_RESULTS.name]))


def _names(record: dict[str, Any], request_id: str) -> bool:
    value = record["value"]
    if "request_ids" in value:
        return request_id in value["request_ids"]
    return request_id in (record["headers"].get("ce_id"), value.get("request_id"))
