"""`./millrace models history`: what the topics say of a model. Training and promotion are `training_triggers`' own."""

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
from streams.terminal_text import as_json as spelt
from streams.terminal_text import moment

READ_LIMIT_S = 15.0


def history(settings: StackSettings, name: str, as_json: bool) -> int:
    """0 where there is something to show, 1 where nothing was ever written of the model."""
    events = events_of(name, *addresses(settings))
    if not events:
        console.err.print(
            f"no update of {console.escape(name)} was ever written: workers answer with the shipped version, if there is one"
        )
        return 1
    if as_json:
        for at_ms, record in events:
            print(spelt({"at_ms": at_ms, **record}))
        return 0
    console.table(console.escape(name), ("when", "version", "event", "who", "why or where"), [
        (moment(at_ms), record["version"], *_words(record)) for at_ms, record in events
    ])  # fmt: skip
    return 0


def events_of(name: str, address: KafkaAddress, ids: SchemaIds) -> list[tuple[int, dict[str, Any]]]:
    """Updates and acknowledgements of a model with the times of their appending, oldest first."""
    events: list[tuple[int, dict[str, Any]]] = []
    for topic in (MODEL_UPDATES, SWAP_ACKS):
        reader = KafkaBroadcast(address, topic.name, SystemClock())
        try:
            polled = reader.read_to_end(READ_LIMIT_S)
        finally:
            reader.close()
        for row, record in Readable(topic, ids, dict).rows(polled):
            if record["model"] == name:
                events.append((polled.timestamps_ms[row], {"topic": topic.name, **record}))
    return sorted(events, key=lambda event: event[0])


def _words(record: dict[str, Any]) -> tuple[str, str, str]:
    if record["topic"] == MODEL_UPDATES.name:
        canary = next((f"{one['arm']} {one['version']}, {one['share']:.0%}" for one in record["challengers"]), "")
        return canary or "live", record["actor"], record["reason"]
    if not record["accepted"]:
        return "refused", record["worker"], record["reason"] or ""
    offsets = ", ".join(f"{o['topic']}/{o['partition']} from {o['offset']}" for o in record["first_offsets"])
    arm = "" if record["arm"] == Arm.LIVE else f" as {record['arm']}"
    return f"swapped{arm} in {record['loaded_ms']:.0f} ms", record["worker"], offsets
