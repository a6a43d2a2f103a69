"""Wires the processors: `policy` (verdicts to actions), `decisions` (reviewers' labels to actions), `timely` (labels that are in
time for the join with predictions), `validate` (events to valid events) and `attribution` (labels of recommendations)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from processors.features.seen import Seen
from processors.features.validate import Validation
from processors.moderation.cleaner import Cleaner
from processors.moderation.policy import Rules, action_of, action_of_review
from processors.moderation.timely_labels import is_timely
from processors.recommendation.attribution_step import AttributionStep
from processors.recommendation.attribution_topics import KafkaAttributionTopics
from processors.settings import ProcessorSettings
from schemas.durations import DAY_MS
from schemas.topic_kinds import Consumption
from schemas.topics import ATTRIBUTION, DECISIONS, POLICY, TIMELY, USER_EVENTS, USER_EVENTS_VALID, VALIDATE
from streams.claim_checks import ClaimChecks
from streams.clock import SystemClock
from streams.kafka.readback import first_times, since
from streams.loop.limits import LoopLimits
from streams.loop.loop import Loop
from streams.loop.step import Step
from streams.process.arguments import whole
from streams.process.record_processor import Function, RecordProcessor
from streams.process.settings import load
from streams.process.shell import configure_logging, serve, slot_name
from streams.process.wiring import Build, LoopPlan, Surroundings, make_loop


def plans(settings: ProcessorSettings) -> dict[str, LoopPlan]:
    """The loop plan of each processor, by name. Raises BadSettings."""
    rules = Rules.parse(settings.remove_at, settings.review_unjudged)

    def policy(verdict: Mapping[str, Any], key: str, timestamp_ms: int) -> dict[str, Any]:
        return action_of(verdict, key, timestamp_ms, rules)

    def decisions(label: Mapping[str, Any], key: str, timestamp_ms: int) -> dict[str, Any] | None:
        return action_of_review(label, timestamp_ms)

    return {
        "policy": _plan(POLICY, _function(POLICY, policy)),
        "decisions": _plan(DECISIONS, _function(DECISIONS, decisions)),
        "timely": _plan(TIMELY, _timely),
        "validate": _plan(VALIDATE, lambda given: _validation(settings, given)),
        "attribution": LoopPlan(
            consumption=ATTRIBUTION,
            build=lambda given: _attribution(settings, given),
            kind="processor",
            limits=LoopLimits(look_ahead_records=60_000, look_ahead_bytes=256 * 1024 * 1024),  # answers wait for their window
        ),
    }


def _plan(consumption: Consumption, build: Build) -> LoopPlan:
    return LoopPlan(consumption=consumption, build=build, kind="processor")


def _function(consumption: Consumption, function: Function) -> Build:
    return lambda given: given.step(RecordProcessor(consumption, function, "content_id", given.registry, given.worker))


def _timely(given: Surroundings) -> Step:
    def passed(label: Mapping[str, Any], key: str, timestamp_ms: int) -> dict[str, Any] | None:
        if is_timely(label, timestamp_ms):
            return dict(label)
        given.metrics.add("late_labels", 1)
        return None

    return given.step(RecordProcessor(TIMELY, passed, "request_id", given.registry, given.worker))


def _validation(settings: ProcessorSettings, given: Surroundings) -> Step:
    address, clock = given.address, given.clock

    def read_back(positions: Mapping[int, int], window_ms: int) -> Iterator[tuple[int, list[bytes | None], list[int]]]:
        """The window ends at the time of the next record, not now: after a stop of an hour, repeats of that record are an hour
        old."""
        nexts = first_times(address, {(USER_EVENTS.name, number): offset for number, offset in positions.items()}, clock)
        for partition in positions:
            from_ms = nexts.get((USER_EVENTS.name, partition), clock.now_ms()) - window_ms
            for part in since(address, USER_EVENTS_VALID.name, [partition], from_ms, clock):
                yield partition, part.values, part.timestamps_ms

    # four times the look-ahead, because offsets have gaps
    seen = Seen(settings.dedupe_window_s * 1000, in_flight=4 * LoopLimits().look_ahead_records)
    return given.step(Validation(given.registry, given.worker, given.metrics, seen, read_back, settings.max_replay_days * DAY_MS))


def _attribution(settings: ProcessorSettings, given: Surroundings) -> Step:
    topics = KafkaAttributionTopics(given.address, given.clock)
    return AttributionStep(given.registry, given.worker, given.clock, topics, int(settings.attribution_window_s * 1000))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="processors", description="Run processors.")
    parser.add_argument("names", nargs="+", choices=["policy", "decisions", "timely", "validate", "attribution"])
    parser.add_argument(
        "--slot", type=whole(0), help="number of this process, which names its transactional ids; else the host does"
    )
    chosen = parser.parse_args(arguments)

    def made() -> list[Loop]:
        settings = load(ProcessorSettings, os.environ)
        configure_logging(settings.log_json)
        by_name, slot = plans(settings), slot_name(chosen.slot)
        first, *others = [by_name[name] for name in chosen.names]
        if settings.blob_roots:
            first = replace(first, periodic=[Cleaner(ClaimChecks(settings.blob_roots.split()), SystemClock())])
        return [make_loop(plan, settings, slot) for plan in (first, *others)]

    return serve(made)
