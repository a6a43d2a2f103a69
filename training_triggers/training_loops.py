"""Wires the loops of this package: `drift` and `accuracy` (detectors), `decide`, `launch` and `rollout`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from processors.processor_loops import Build, Part, inline, make_loop
from schemas.errors import BadSettings
from schemas.generated import DriftState, TrainingEvent
from schemas.topic_kinds import Consumption
from schemas.topics import (
    ACCURACY,
    DECIDE,
    DRIFT,
    DRIFT_EVENTS,
    DRIFT_STATE,
    LAUNCH,
    MODEL_UPDATES,
    ROLLOUT,
    TRAINING_EVENTS,
    TRAINING_REQUESTS,
)
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.loop.loop import Loop, LoopLimits
from streams.metrics import Metrics
from streams.process import shell
from streams.process.settings import load
from streams.process.shell import configure_logging
from streams.schema_registry import Registry
from training_triggers.drift.decide import Decide, Policy
from training_triggers.drift.detect import DETECTORS, Detector
from training_triggers.drift.version_watch import Rules
from training_triggers.journal import Journal, reader
from training_triggers.rollout import controller
from training_triggers.rollout.rollout_topics import KafkaTopics
from training_triggers.runs.launch import Launch, RunProcess
from training_triggers.settings import TriggerSettings
from training_triggers.triggers.age import Age
from training_triggers.triggers.volume import Volume

# The state is written with each commit, so commits are few.
DETECTOR_LIMITS = LoopLimits(poll_records=1_000, idle_wait_ms=500, commit_interval_ms=1_000, look_ahead_records=20_000)


def detector(name: str, settings: TriggerSettings) -> tuple[Consumption, Build]:
    consumption, extract, triggers = DETECTORS[name]
    window_n = settings.answers_window if name == ACCURACY.group else settings.window
    due = (Volume(settings.retrain_entries), Age(settings.retrain_age_s)) if name == DRIFT.group else ()
    rules = Rules(window_n=window_n, in_a_row=settings.in_a_row, baseline_ms=int(settings.baseline_s * 1000), due=due)

    def build(address: KafkaAddress, ids: Registry, worker: str, metrics: Metrics) -> Part:
        states = reader(address, ids, DRIFT_STATE.name, DriftState)

        def wishes() -> KafkaBroadcast:
            return KafkaBroadcast(address, (DRIFT_EVENTS.name, MODEL_UPDATES.name), SystemClock())

        made = Detector(consumption, extract, triggers, rules, ids, worker, states, wishes)
        return Part(inline(made.process, made.answer, made.close), made)

    return consumption, build


def deciding(settings: TriggerSettings) -> tuple[Consumption, Build]:
    policy = Policy(int(settings.cool_down_s * 1000), settings.runs_a_day, int(settings.baseline_s * 1000))

    def build(address: KafkaAddress, ids: Registry, worker: str, metrics: Metrics) -> Part:
        def read() -> KafkaBroadcast:
            return KafkaBroadcast(address, (TRAINING_REQUESTS.name, TRAINING_EVENTS.name), SystemClock())

        made = Decide(policy, ids, worker, read)
        step = inline(made.process, made.answer, made.close)
        return Part(step, made)

    return DECIDE, build


def launching(settings: TriggerSettings) -> tuple[Consumption, Build]:
    runs = Path(settings.runs)
    if not settings.runs or not runs.is_absolute():
        raise BadSettings("MILLRACE_RUNS must name a folder, whole from its root: each run keeps there what it made")

    def build(address: KafkaAddress, ids: Registry, worker: str, metrics: Metrics) -> Part:
        clock = SystemClock()

        def fail(run_key: str, model: str, words: str) -> None:
            journal = Journal(address, ids, clock, run_key, model, worker)
            journal.write("failed", words, facts={"folder": str(runs / run_key)})
            journal.close()

        def events() -> KafkaBroadcast:
            return KafkaBroadcast(address, TRAINING_EVENTS.name, clock)

        made = Launch(ids, worker, events, lambda run_key: RunProcess(run_key, runs), fail, clock)
        step = inline(made.process, made.answer, made.close)
        return Part(step, made, [made])

    return LAUNCH, build


def rolling_out(settings: TriggerSettings) -> tuple[Consumption, Build]:
    policy = controller.Policy(
        settings.canary_share, settings.canary_labelled, settings.canary_margin, settings.canary_unlabelled, settings.canary_most_s,
        settings.watch_s, settings.watch_share,
    )  # fmt: skip

    def build(address: KafkaAddress, ids: Registry, worker: str, metrics: Metrics) -> Part:
        events = reader(address, ids, TRAINING_EVENTS.name, TrainingEvent)
        made = controller.Rollout(policy, ids, events, lambda: KafkaTopics(address, ids, SystemClock(), worker), SystemClock())
        return Part(inline(made.process, made.answer), made, [made])

    return ROLLOUT, build


def serve(names: Sequence[str], slot: int) -> int:
    """Run these loops in one process until it is told to stop; the exit code."""

    def made() -> list[Loop]:
        if slot:
            raise BadSettings(f"slot {slot}: of these loops one process alone reads everything, and its slot is 0")
        settings = load(TriggerSettings, os.environ)
        configure_logging(settings.log_json)
        loops: list[Loop] = []
        for name in names:
            match name:
                case DECIDE.group:
                    consumption, build = deciding(settings)
                case LAUNCH.group:
                    consumption, build = launching(settings)
                case ROLLOUT.group:
                    consumption, build = rolling_out(settings)
                case _:
                    consumption, build = detector(name, settings)
            limits = DETECTOR_LIMITS if name in DETECTORS else LoopLimits()
            loops.append(make_loop(consumption, build, slot, settings, [], limits, kind="trigger", alone=True))
        return loops

    return shell.serve(made)
