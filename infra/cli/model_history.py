"""`./millrace models history`: the updates of a model and their acknowledgements by workers, from the topics."""

from __future__ import annotations

from typing import Any

from infra import console
from infra.running import addresses
from infra.settings import StackSettings
from schemas.codec import SchemaIds
from schemas.topics import MODEL_UPDATES, SWAP_ACKS
from schemas.vocabulary import Arm
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.readable import Readable
from streams.terminal_text import as_json as json_line
from streams.terminal_text import moment

READ_LIMIT_S = 15.0


def history(settings: StackSettings, name: str, as_json: bool) -> int:
    """0 if the model has updates, else 1."""
    events = events_of(name, *addresses(settings))
    if not events:
        console.err.print(f"there is no update of {console.escape(name)}: workers use the shipped version, if there is one")
        return 1
    if as_json:
        for at_ms, record in events:
            print(json_line({"at_ms": at_ms, **record}))
        return 0
    console.table(
        console.escape(name),
        ("time", "version", "event", "by", "reason or offsets"),
        [(moment(at_ms), record["version"], *_event(record)) for at_ms, record in events],
    )
    return 0


def events_of(name: str, address: KafkaAddress, registry: SchemaIds) -> list[tuple[int, dict[str, Any]]]:
    """Updates and acknowledgements of a model with the times at which the broker stored them (ms), oldest first."""
    events: list[tuple[int, dict[str, Any]]] = []
    for topic in (MODEL_UPDATES, SWAP_ACKS):
        reader = KafkaBroadcast(address, topic.name, SystemClock())
        try:
            polled = reader.read_to_end(READ_LIMIT_S)
        finally:
            reader.close()
        for row, record in Readable(topic, registry, dict).rows(polled):
            if record["model"] == name:
                events.append((polled.timestamps_ms[row], {"topic": topic.name, **record}))
    return sorted(events, key=lambda event: event[0])


def _event(record: dict[str, Any]) -> tuple[str, str, str]:
    """The event, who caused it, and its reason or offsets."""
    if record["topic"] == MODEL_UPDATES.name:
        challengers = [f"{arm['arm']} {arm['version']}, {arm['share']:.0%}" for arm in record["challengers"]]
        return challengers[0] if challengers else "live", record["actor"], record["reason"]
    if not record["accepted"]:
        return "refused", record["worker"], record["reason"] or ""
    offsets = ", ".join(f"{first['topic']}/{first['partition']} from {first['offset']}" for first in record["first_offsets"])
    arm = "" if record["arm"] == Arm.LIVE else f" as {record['arm']}"
    return f"swapped{arm} in {record['loaded_ms']:.0f} ms", record["worker"], offsets
