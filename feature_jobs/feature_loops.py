"""Wires the processes of features that our loop runs: `user-sink` and `item-sink` (tiles to the online store), `archive`
(events to Parquet)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from feature_jobs.offline.archive import EVENTS, Archive
from feature_jobs.online.attributes import Attributes
from feature_jobs.online.feature_sink import FeatureSink
from feature_jobs.settings import FeatureSettings
from processors.features.online_store import WRITE_LIMIT_S, RedisStore
from processors.processor_loops import Build, Part, inline, make_loop
from schemas.features import ITEM, USER, View
from schemas.topic_kinds import Consumption
from schemas.topics import ARCHIVE, ITEM_SINK, USER_SINK
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import stretch
from streams.loop.loop import Delivery, Loop, LoopLimits
from streams.metrics import Metrics
from streams.process import shell
from streams.process.settings import load
from streams.process.shell import configure_logging
from streams.rows import Place, Polled
from streams.schema_registry import Registry

SINK_LIMITS = LoopLimits(
    delivery=Delivery.AT_LEAST_ONCE, poll_records=2_000, idle_wait_ms=50, commit_interval_ms=500, look_ahead_records=20_000
)
# What waits for a file is in flight: as much as a file may take, and some more.
ARCHIVE_LIMITS = LoopLimits(
    delivery=Delivery.AT_LEAST_ONCE, poll_records=2_000, idle_wait_ms=200, commit_interval_ms=500,
    look_ahead_records=60_000, look_ahead_bytes=128 * 1024 * 1024,
)  # fmt: skip


def sink(view: View, settings: FeatureSettings) -> Build:
    def build(address: KafkaAddress, ids: Registry, worker: str, metrics: Metrics) -> Part:
        clock = SystemClock()
        store = RedisStore(settings.redis, WRITE_LIMIT_S)
        attributes = Attributes(view, KafkaBroadcast(address, view.attributes.name, clock), ids)

        def read_back(ends: Mapping[Place, int]) -> Iterator[Polled]:
            return stretch(address, view.tiles.name, KafkaAdmin(address).firsts(list(ends)), ends, clock)

        source = KafkaAdmin(address).topic_id(view.tiles.name)
        made = FeatureSink(view, ids, store, attributes, read_back, clock, metrics, source)
        return Part(inline(made.process, made.answer), made, [made])

    return build


def archive(settings: FeatureSettings) -> Build:
    def build(address: KafkaAddress, ids: Registry, worker: str, metrics: Metrics) -> Part:
        made = Archive(Path(settings.lake) / EVENTS, ids, SystemClock(), settings.archive_s)
        return Part(made, made)

    return build


LIMITS = {"archive": ARCHIVE_LIMITS}


def parts(settings: FeatureSettings) -> dict[str, tuple[Consumption, Build]]:
    return {
        "user-sink": (USER_SINK, sink(USER, settings)),
        "item-sink": (ITEM_SINK, sink(ITEM, settings)),
        "archive": (ARCHIVE, archive(settings)),
    }


def serve(names: Sequence[str], slot: int) -> int:
    """Run these loops in one process until it is told to stop; the exit code."""

    def loops() -> list[Loop]:
        settings = load(FeatureSettings, os.environ)
        configure_logging(settings.log_json)
        made = parts(settings)
        return [make_loop(*made[name], slot, settings, [], LIMITS.get(name, SINK_LIMITS), kind="sink") for name in names]

    return shell.serve(loops)
