"""`./millrace models rescore`: sends the requests that a version answered again, to the versions that answer now.

The prediction log names the requests, offset by offset. Each request is written to its group's first retry topic with its id and
origin, and with a redrive number above that of every earlier answer, so that a reader knows which of two answers supersedes the
other. Deadlines and reply addresses are left out: nobody waits for the answers any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.catalogue import consumption
from schemas.errors import BadSettings
from schemas.topic_kinds import Consumption
from schemas.topics import PREDICTION_LOG
from schemas.vocabulary import Arm
from streams import headers as h
from streams.clock import SystemClock
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import since, stretch
from streams.kafka.sink import KafkaSink
from streams.readable import Readable, every
from streams.rows import OutRecords, Place
from streams.schema_registry import Registry
from training_triggers.settings import TriggerSettings

FLUSH_LIMIT_S = 60.0
ARMS = (Arm.LIVE, Arm.CANARY)
LEFT_OUT = {h.DEADLINE_MS, h.REPLY_TO, h.ATTEMPT, h.NOT_BEFORE_MS, h.REDRIVE, h.ORIGIN_TOPIC, h.ORIGIN_PARTITION, h.ORIGIN_OFFSET}


@dataclass(frozen=True)
class Rescored:
    requests: int
    redrive: int
    topic: str


def answered(address: KafkaAddress, ids: Registry, model: str, version: str, from_ms: int) -> tuple[str, dict[Place, set[int]]]:
    """The task, and by partition the offsets of the requests to which this version gave the callers' answers."""
    task, found = "", dict[Place, set[int]]()

    def take(record: dict[str, Any]) -> None:
        nonlocal task
        if (record["model"], record["version"]) != (model, version) or record["arm"] not in ARMS:
            return
        partitions = np.frombuffer(record["origin_partitions"], "<i4").tolist()
        offsets = np.frombuffer(record["origin_offsets"], "<i8").tolist()
        places = [(record["origin_topic"], partition) for partition in partitions]
        for place, offset in list(zip(places, offsets, strict=True)):
            found.setdefault(place, set()).add(offset)
        task = record["task"]

    log = Readable(PREDICTION_LOG, ids, take)
    every(log, since(address, PREDICTION_LOG.name, range(PREDICTION_LOG.partitions), from_ms, SystemClock()))
    return task, found


def rescore(settings: TriggerSettings, model: str, version: str, from_ms: int, say: Callable[[str], None]) -> Rescored:
    """Raises BadSettings if that version answered nothing since then."""
    address, ids, clock = KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry), SystemClock()
    task, asked = answered(address, ids, model, version, from_ms)
    if not asked:
        raise BadSettings(f"the log has no answer of {model} {version} in that time")
    taken = consumption(task)
    redrive = 1 + _highest(address, ids, taken, asked, from_ms)
    starts, ends = (
        {place: min(offsets) for place, offsets in asked.items()},
        {place: max(offsets) + 1 for place, offsets in asked.items()},
    )
    sink, topic, n = KafkaSink(address, None), taken.retry_topics()[0], 0
    try:
        for part in stretch(address, taken.topic.name, starts, ends, clock):
            rows = [i for i, place in enumerate(part.places) if part.offsets[i] in asked[place]]
            headers = [
                [
                    *((name, value) for name, value in part.headers[i] or () if name not in LEFT_OUT),
                    (h.ORIGIN_TOPIC, part.places[i][0].encode()),
                    (h.ORIGIN_PARTITION, str(part.places[i][1]).encode()),
                    (h.ORIGIN_OFFSET, str(part.offsets[i]).encode()),
                    (h.REDRIVE, str(redrive).encode()),
                ]
                for i in rows
            ]
            if rows:
                sink.produce(
                    OutRecords(
                        topic,
                        [part.keys[i] for i in rows],
                        [part.values[i] for i in rows],
                        headers,
                        [part.places[i][1] for i in rows],
                    )
                )
                n += len(rows)
                say(f"{n} of {sum(map(len, asked.values()))} requests are asked again")
        sink.flush(FLUSH_LIMIT_S)
    finally:
        sink.close()
    return Rescored(n, redrive, topic)


def _highest(address: KafkaAddress, ids: Registry, taken: Consumption, asked: dict[Place, set[int]], from_ms: int) -> int:
    """The highest redrive number of any answer to these requests."""
    assert taken.results is not None
    highest, results = 0, Readable(taken.results, ids, dict)
    for result in every(results, since(address, taken.results.name, range(taken.results.partitions), from_ms, SystemClock())):
        if result["origin_offset"] in asked.get((result["origin_topic"], result["origin_partition"]), ()):
            highest = max(highest, result["redrive"])
    return highest
