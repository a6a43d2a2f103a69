"""Wires the loops of this package: `drift` and `accuracy` (detectors) and `decide`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from processors.process import Build, Part, inline, make_loop
from schemas.codec import read_any
from schemas.errors import BadSettings
from schemas.generated import DriftState, TrainingRequest
from schemas.topic import Consumption
from schemas.topics import ACCURACY, DECIDE, DRIFT_STATE, TRAINING_REQUESTS
from streams import service
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.loop import Loop, LoopLimits
from streams.metrics import Metrics
from streams.registry import Registry
from streams.service import Watchdog, configure_logging
from streams.settings import load
from training_triggers.decide import Decide, Policy
from training_triggers.detect import DETECTORS, Detector
from training_triggers.settings import TriggerSettings
from training_triggers.watch import Rules

READ_LIMIT_S = 60.0
# The state is written with each commit, so commits are few.
DETECTOR_LIMITS = LoopLimits(poll_records=1_000, idle_wait_ms=500, commit_interval_ms=1_000, look_ahead_records=20_000)


def reader(address: KafkaAddress, ids: Registry, topic: str, kind: Any) -> Callable[[], Iterable[Any]]:
    """All committed records of a topic at each call, oldest first."""

    def read() -> list[Any]:
        broadcast = KafkaBroadcast(address, topic, SystemClock())
        try:
            return [kind.from_dict(read_any(value, ids)) for value in broadcast.read_to_end(READ_LIMIT_S).values]
        finally:
            broadcast.close()

    return read


def detector(name: str, settings: TriggerSettings) -> tuple[Consumption, Build]:
    consumption, extract, triggers = DETECTORS[name]
    window_n = settings.answers_window if name == ACCURACY.group else settings.window
    rules = Rules(window_n=window_n, in_a_row=settings.in_a_row)

    def build(address: KafkaAddress, ids: Registry, worker: str, metrics: Metrics) -> Part:
        states = reader(address, ids, DRIFT_STATE.name, DriftState)
        made = Detector(consumption, extract, triggers, rules, ids, worker, states)
        return Part(inline(made.process, made.answer), made)

    return consumption, build


def deciding(settings: TriggerSettings) -> tuple[Consumption, Build]:
    policy = Policy(int(settings.cool_down_s * 1000), settings.runs_a_day)

    def build(address: KafkaAddress, ids: Registry, worker: str, metrics: Metrics) -> Part:
        made = Decide(policy, ids, worker, reader(address, ids, TRAINING_REQUESTS.name, TrainingRequest))
        return Part(inline(made.process, made.answer), made)

    return DECIDE, build


def serve(names: Sequence[str], slot: int) -> int:
    """Run these loops in one process until it is told to stop; the exit code."""

    def made(watchdog: Watchdog) -> list[Loop]:
        if slot:
            raise BadSettings(f"slot {slot}: of these loops one process alone reads everything, and its slot is 0")
        settings = load(TriggerSettings, os.environ)
        configure_logging(settings.log_json)
        loops: list[Loop] = []
        for name in names:
            consumption, build = deciding(settings) if name == DECIDE.group else detector(name, settings)
            limits = LoopLimits() if name == DECIDE.group else DETECTOR_LIMITS
            loops.append(make_loop(consumption, build, slot, settings, [watchdog.of(name)], limits, kind="trigger", alone=True))
        return loops

    return service.serve(made)
