"""`./millrace models promote | history`: the topic is the truth, and the only thing that is written."""

from __future__ import annotations

import getpass
import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infra import console
from infra.inspect import addresses
from infra.settings import ROOT, StackSettings
from schemas.codec import Encoder, read_any
from schemas.errors import ModelRefused
from schemas.generated import ModelUpdate
from schemas.topics import MODEL_UPDATES, SWAP_ACKS
from streams.clock import SystemClock
from streams.headers import cloud_event
from streams.ids import uuid7
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords

READ_LIMIT_S = 15.0


def promote(settings: StackSettings, name: str, folder: str, reason: str, as_json: bool) -> None:
    """Write one model update. The folder is only read for its version and digest: workers check it whole."""
    path = (
        ROOT / "inference_workers" / "shipped" / folder.removeprefix("shipped:")
        if folder.startswith("shipped:")
        else Path(folder).resolve()
    )
    manifest = path / "manifest.json"
    if not manifest.is_file():
        raise ModelRefused(f"{path} has no manifest.json: it is not a model folder")
    raw = manifest.read_bytes()
    found = json.loads(raw)
    if found.get("name") != name:
        raise ModelRefused(f"{path} is a version of {found.get('name')}, not of {name}")
    clock = SystemClock()
    update = ModelUpdate(
        model=name, version=found["version"], uri=folder if folder.startswith("shipped:") else f"file:{path}",
        digest=hashlib.sha256(raw).hexdigest(), reason=reason, actor=getpass.getuser(), decided_ms=clock.now_ms(),
    )  # fmt: skip
    address, ids = addresses(settings)
    sink = KafkaSink(address, None)
    value = Encoder("model-update", MODEL_UPDATES.subject, ids).encode_one(update)
    headers = cloud_event([uuid7(update.decided_ms)], "model-update", "models command")
    sink.produce(OutRecords(MODEL_UPDATES.name, [name.encode()], [value], headers))
    sink.flush(10.0)
    if as_json:
        print(json.dumps(asdict(update)))
    else:
        console.out.print(f"{name} {update.version} is announced; `./millrace models history {name}` shows who swapped")


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
        return "promoted", record["actor"], record["reason"]
    if not record["accepted"]:
        return "refused", record["worker"], record["reason"] or ""
    offsets = ", ".join(f"{o['topic']}/{o['partition']} from {o['offset']}" for o in record["first_offsets"])
    return f"swapped in {record['loaded_ms']:.0f} ms", record["worker"], offsets
