"""`./millrace models history`: what the topics say of a model. Training and promotion are `training_triggers`' own."""

from __future__ import annotations

import json
import time
from typing import Any

from infra import console
from infra.inspect import addresses
from infra.local import state
from infra.settings import StackSettings
from schemas.codec import read_any
from schemas.topics import MODEL_UPDATES, SWAP_ACKS
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast

READ_LIMIT_S = 15.0


def mlflow(settings: StackSettings) -> str:
    """Address of the MLflow server that is named or that `up` started; empty where there is none."""
    named = settings.mlflow if settings.mlflow not in (None, "local") else state.read(settings.run_folder).mlflow
    return named or ""


def where(settings: StackSettings) -> dict[str, str]:
    """The variables that tell another package's command where the servers are."""
    address, _ = addresses(settings)
    running = state.read(settings.run_folder)
    return {
        "MILLRACE_BOOTSTRAP": address.bootstrap,
        "MILLRACE_REGISTRY": settings.registry or running.registry,
        "MILLRACE_MLFLOW": mlflow(settings),
    }


def history(settings: StackSettings, name: str, as_json: bool) -> None:
    address, ids = addresses(settings)
    events: list[tuple[int, dict[str, Any]]] = []
    for topic in (MODEL_UPDATES.name, SWAP_ACKS.name):
        reader = KafkaBroadcast(address, topic, SystemClock())
        polled = reader.read_to_end(READ_LIMIT_S)
        reader.close()
        for at_ms, value in zip(polled.timestamps_ms, polled.values, strict=True):
            record = read_any(value, ids)
            if record["model"] == name:
                events.append((at_ms, {"topic": topic, **record}))
    events.sort(key=lambda event: event[0])
    if as_json:
        for at_ms, record in events:
            print(json.dumps({"at_ms": at_ms, **record}))
        return
    if not events:
        console.out.print(f"no update of {name} was ever written: workers answer with the shipped version")
        return
    console.table(name, ("when", "version", "event", "who", "why or where"), [
        (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000)), record["version"], *_words(record))
        for at_ms, record in events
    ])  # fmt: skip


def _words(record: dict[str, Any]) -> tuple[str, str, str]:
    if record["topic"] == MODEL_UPDATES.name:
        canary = next((f"{one['arm']} {one['version']}, {one['share']:.0%}" for one in record["challengers"]), "")
        return canary or "live", record["actor"], record["reason"]
    if not record["accepted"]:
        return "refused", record["worker"], record["reason"] or ""
    offsets = ", ".join(f"{o['topic']}/{o['partition']} from {o['offset']}" for o in record["first_offsets"])
    arm = "" if record["arm"] == "live" else f" as {record['arm']}"
    return f"swapped{arm} in {record['loaded_ms']:.0f} ms", record["worker"], offsets
