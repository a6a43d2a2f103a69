"""Wires the feature processes that our loop runs: `user-sink` and `item-sink` (tiles to the online store), `recent-sink` (each user's
last events to the online store), and `archive` (events to Parquet)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from feature_jobs.offline import archive as events
from feature_jobs.offline.archive import EVENTS
from feature_jobs.online.attributes import attributes_of
from feature_jobs.online.feature_sink import TILES, FeatureSink, StateKind
from feature_jobs.online.recent import RecentEvents, read_event
from feature_jobs.settings import FeatureSettings
from processors.features.online_store import WRITE_LIMIT_S, RedisStore
from schemas.features import ITEM, RECENT, USER, View
from schemas.topics import ARCHIVE, ITEM_SINK, RECENT_SINK, USER_SINK
from streams.archived.archive_limits import IN_ORDER, LIMITS
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.readback import newest
from streams.loop.limits import Delivery, LoopLimits
from streams.loop.loop import Loop
from streams.loop.step import Step
from streams.process import shell
from streams.process.settings import load
from streams.process.shell import configure_logging
from streams.process.wiring import Build, LoopPlan, Surroundings, make_loop
from streams.rows import Place, Polled

SINK_LIMITS = LoopLimits(
    delivery=Delivery.AT_LEAST_ONCE, poll_records=2_000, idle_wait_ms=50, commit_interval_ms=500, look_ahead_records=20_000
)
RECENT_LIMITS = replace(SINK_LIMITS, idle_wait_ms=10)  # an event should change the next recommendation
ARCHIVE_LIMITS = replace(LIMITS, poll_records=2_000)

# A new owner reads this many events of each partition back, not the topic's whole month; what lies further back is in the store.
RECENT_READ_BACK = 1_000_000
RECENT_EVENTS = StateKind(read_event, RecentEvents, RecentEvents.take_stored, most=200_000)


def sink(view: View, settings: FeatureSettings, kind: StateKind = TILES, read_back_records: int = 2**62) -> Build:
    def build(given: Surroundings) -> Step:
        address, clock = given.address, given.clock
        store = RedisStore(settings.redis, WRITE_LIMIT_S)
        attributes = None
        if view.attributes is not None:
            attributes = attributes_of(view, KafkaBroadcast(address, view.attributes.name, clock), given.registry)

        def read_back(ends: Mapping[Place, int]) -> Iterator[Polled]:
            return newest(address, view.source.name, ends, read_back_records, clock)

        topic_id = KafkaAdmin(address).topic_id(view.source.name)
        return given.step(FeatureSink(view, given.registry, store, attributes, read_back, clock, given.metrics, topic_id, kind))

    return build


def archive(settings: FeatureSettings) -> Build:
    return lambda given: events.archive(Path(settings.lake) / EVENTS, given.registry, given.clock, settings.archive_flush_s)


def plans(settings: FeatureSettings) -> dict[str, LoopPlan]:
    return {
        "user-sink": LoopPlan(consumption=USER_SINK, build=sink(USER, settings), kind="sink", limits=SINK_LIMITS),
        "item-sink": LoopPlan(consumption=ITEM_SINK, build=sink(ITEM, settings), kind="sink", limits=SINK_LIMITS),
        "recent-sink": LoopPlan(
            consumption=RECENT_SINK,
            build=sink(RECENT, settings, RECENT_EVENTS, RECENT_READ_BACK),
            kind="sink",
            limits=RECENT_LIMITS,
        ),
        "archive": LoopPlan(consumption=ARCHIVE, build=archive(settings), kind="sink", limits=ARCHIVE_LIMITS, batches=IN_ORDER),
    }


def serve(names: Sequence[str], slot: int) -> int:
    """Run these loops in one process until a signal stops it; the exit code."""

    def loops() -> list[Loop]:
        settings = load(FeatureSettings, os.environ)
        configure_logging(settings.log_json)
        by_name = plans(settings)
        return [make_loop(by_name[name], settings, slot) for name in names]

    return shell.serve(loops)
