"""Wires the loops of this package: `drift` and `accuracy` (detectors), `decide`, `launch` and `rollout`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

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
from schemas.vocabulary import RunEvent
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.readback import records
from streams.loop.batching import BatchLimits
from streams.loop.limits import LoopLimits
from streams.loop.loop import Loop
from streams.loop.step import Step
from streams.process import shell
from streams.process.settings import load
from streams.process.shell import configure_logging
from streams.process.wiring import Build, LoopPlan, Surroundings, make_loop
from training_triggers.drift.decide import Decide, RetrainPolicy
from training_triggers.drift.detect import DETECTORS, Detector
from training_triggers.drift.version_watch import WatchRules
from training_triggers.journal import Journal
from training_triggers.rollout.controller import Rollout
from training_triggers.rollout.decisions import RolloutPolicy
from training_triggers.rollout.rollout_topics import KafkaTopics
from training_triggers.runs.launch import Launch, RunProcess
from training_triggers.settings import TriggerSettings
from training_triggers.triggers.age import Age
from training_triggers.triggers.volume import Volume

# A detector writes the whole state of each watch that a batch touched, so it gathers records for half a second.
DETECTOR_BATCHES = BatchLimits(max_rows=1_000, max_wait_ms=500)
DETECTOR_LIMITS = LoopLimits(poll_records=1_000, idle_wait_ms=500, commit_interval_ms=1_000, look_ahead_records=20_000)


def detecting(name: str, settings: TriggerSettings) -> LoopPlan:
    consumption, extract, triggers = DETECTORS[name]
    window_n = settings.accuracy_window_answers if name == ACCURACY.group else settings.drift_window_entries
    due = (Volume(settings.retrain_entries), Age(settings.retrain_age_s)) if name == DRIFT.group else ()
    rules = WatchRules(
        window_n=window_n, in_a_row=settings.drift_windows_in_a_row, baseline_ms=int(settings.drift_baseline_s * 1000), due=due
    )

    def build(given: Surroundings) -> Step:
        def states() -> list[DriftState]:
            return records(given.address, DRIFT_STATE, given.registry, DriftState.from_dict)

        def renewals() -> KafkaBroadcast:
            return KafkaBroadcast(given.address, (DRIFT_EVENTS.name, MODEL_UPDATES.name), given.clock)

        return given.step(Detector(consumption, extract, triggers, rules, given.registry, given.worker, states, renewals))

    return replace(_plan(consumption, build), limits=DETECTOR_LIMITS, batches=DETECTOR_BATCHES)


def deciding(settings: TriggerSettings) -> LoopPlan:
    policy = RetrainPolicy(int(settings.cool_down_s * 1000), settings.drift_runs_per_day, int(settings.drift_baseline_s * 1000))

    def build(given: Surroundings) -> Step:
        def read() -> KafkaBroadcast:
            return KafkaBroadcast(given.address, (TRAINING_REQUESTS.name, TRAINING_EVENTS.name), given.clock)

        return given.step(Decide(policy, given.registry, given.worker, read))

    return _plan(DECIDE, build)


def launching(settings: TriggerSettings) -> LoopPlan:
    """Raises BadSettings if the folder of runs is not an absolute path."""
    runs = Path(settings.runs_folder)
    if not settings.runs_folder or not runs.is_absolute():
        raise BadSettings("MILLRACE_RUNS_FOLDER must be an absolute path; each run keeps its files there")

    def build(given: Surroundings) -> Step:
        address, ids, clock, worker = given.address, given.registry, given.clock, given.worker

        def fail(run_key: str, model: str, words: str) -> None:
            with closing(Journal.on_kafka(address, ids, clock, worker)) as journal:
                journal.write(run_key, model, RunEvent.FAILED, words, {"folder": str(runs / run_key)})

        def events() -> KafkaBroadcast:
            return KafkaBroadcast(address, TRAINING_EVENTS.name, clock)

        return given.step(Launch(ids, worker, events, lambda run_key: RunProcess(run_key, runs), fail, clock))

    return _plan(LAUNCH, build)


def rolling_out(settings: TriggerSettings) -> LoopPlan:
    policy = RolloutPolicy(
        settings.canary_share,
        settings.canary_min_labelled,
        settings.canary_margin,
        settings.canary_unlabelled_answers,
        settings.canary_max_s,
        settings.watch_s,
        settings.watch_share,
    )

    def build(given: Surroundings) -> Step:
        address, ids, clock = given.address, given.registry, given.clock

        def events() -> list[TrainingEvent]:
            return records(address, TRAINING_EVENTS, ids, TrainingEvent.from_dict)

        return given.step(Rollout(policy, ids, events, lambda: KafkaTopics(address, ids, clock, given.worker), clock))

    return _plan(ROLLOUT, build)


def _plan(consumption: Consumption, build: Build) -> LoopPlan:
    return LoopPlan(consumption=consumption, build=build, kind="trigger", alone=True)


def plan_of(name: str, settings: TriggerSettings) -> LoopPlan:
    match name:
        case DECIDE.group:
            return deciding(settings)
        case LAUNCH.group:
            return launching(settings)
        case ROLLOUT.group:
            return rolling_out(settings)
        case _:
            return detecting(name, settings)


def serve(names: Sequence[str], slot: int) -> int:
    """Run these loops in one process until a signal stops it; the exit code."""

    def loops() -> list[Loop]:
        if slot:
            raise BadSettings(
                f"slot {slot} is invalid: each of these loops runs in one process, in slot 0, and reads the whole topic"
            )
        settings = load(TriggerSettings, os.environ)
        configure_logging(settings.log_json)
        return [make_loop(plan_of(name, settings), settings, slot) for name in names]

    return shell.serve(loops)
