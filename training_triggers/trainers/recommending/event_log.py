"""Events that recommendation learns from, out of the topics: valid events, the catalogue, profiles. A run keeps what it read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from feature_jobs.online.attributes import attributes_read
from schemas.codec import SchemaIds
from schemas.features import ITEM, USER
from schemas.topics import USER_EVENTS_VALID
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import newest
from streams.readable import Readable, every
from training_triggers.trainers.recommending.event_readers import of_shop
from training_triggers.trainers.recommending.interactions import Interactions, Items

MAX_EVENTS = 1_000_000  # the newest, shared among the partitions
Rows = list[tuple[str, str, str, float]]  # user, item, kind, epoch seconds


def read_log(address: KafkaAddress, ids: SchemaIds) -> Interactions:
    """Of all users, up to the present end. Items are those of the catalogue. Raises BrokerUnavailable, RetryLater, BadSettings."""
    topic, admin = USER_EVENTS_VALID.name, KafkaAdmin(address)
    places = [(topic, number) for number in range(admin.partitions()[topic])]
    ends = admin.ends(places)
    parts = newest(address, topic, ends, MAX_EVENTS // len(places), SystemClock())
    rows: Rows = [row for row in every(Readable(USER_EVENTS_VALID, ids, _row), parts) if row is not None]
    return of_shop("users' events of the log", attributes_read(ITEM, address, ids), attributes_read(USER, address, ids), rows)


def _row(event: Mapping[str, Any]) -> tuple[str, str, str, float] | None:
    item = event["item_id"]
    return None if item is None else (event["user_id"], item, event["kind"], event["event_ms"] / 1000)


def save(data: Interactions, folder: Path) -> None:
    """Both files, or none that `kept` takes."""
    names = {
        "name": data.name,
        "items": asdict(data.items),
        "profiles": data.profiles,
        "option": data.option,
        "users": data.users,
        "feature_names": data.feature_names,
    }
    (folder / "events.json").write_text(json.dumps(names))
    part = folder / "events.part.npz"
    known = np.zeros((0, 0), np.float32) if data.at_events is None else data.at_events
    np.savez(part, user=data.user, item=data.item, kind=data.kind, time_s=data.time_s, at_events=known)
    part.rename(folder / "events.npz")


def kept(folder: Path) -> Interactions | None:
    """What an earlier attempt of the run read; None if there was none."""
    if not (folder / "events.npz").exists():
        return None
    names = json.loads((folder / "events.json").read_text())
    with np.load(folder / "events.npz", allow_pickle=False) as arrays:
        user, item, kind, time_s, known = (arrays[name] for name in ("user", "item", "kind", "time_s", "at_events"))
    return Interactions(
        names["name"],
        Items(**names["items"]),
        names["profiles"],
        user,
        item,
        kind,
        time_s,
        names["option"],
        tuple(names["users"]),
        known if names["feature_names"] else None,
        tuple(names["feature_names"]),
    )
