"""Wires the processors that our loop runs: `policy` (verdicts to actions), `decisions` (reviewers' labels to actions),
`timely` (labels to labels that may still meet their predictions) and `validate` (events to events that hold)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from processors.features.seen import Seen
from processors.features.validate import Validation
from processors.moderation.cleaner import Cleaner
from processors.moderation.policy import Rules, action_of, action_of_review
from processors.moderation.timely_labels import is_timely
from processors.settings import GroupSettings, ProcessorSettings
from schemas.features import DAY_MS
from schemas.topic_kinds import Consumption
from schemas.topics import DECISIONS, POLICY, TIMELY, USER_EVENTS, USER_EVENTS_VALID, VALIDATE
from streams.claim_checks import Blobs
from streams.clock import SystemClock
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import first_times, since
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource
from streams.loop.batching import Batcher, BatchLimits, CostLine
from streams.loop.loop import Delivery, Follower, Loop, LoopLimits
from streams.loop.recoverable import State
from streams.loop.step import INLINE, Answer, BatchStep, Process, Step
from streams.metrics import Metrics
from streams.process.arguments import whole
from streams.process.record_step import Function, RecordStep
from streams.process.settings import load
from streams.process.shell import Status, configure_logging, serve, serve_metrics, slot_name
from streams.schema_registry import Registry


@dataclass(frozen=True)
class Part:
    """What a loop does with its records. state: kept beside the offsets. followers: looked after between batches."""

    step: Step
    state: State | None = None
    followers: Sequence[Follower] = ()


def inline(process: Process, answer: Answer, closing: Callable[[], None] = lambda: None) -> BatchStep:
    """A step for state that is kept beside the offsets: a batch that ran on past a change of the group would write into
    what was restored meanwhile."""
    return BatchStep(process, answer, SystemClock(), CostLine(), INLINE, closing)


Build = Callable[[KafkaAddress, Registry, str, Metrics], Part]  # broker, registry, name of the loop, its metrics


def parts(settings: ProcessorSettings) -> dict[str, tuple[Consumption, Build]]:
    """By name: what is read, and what is made of it. Raises BadSettings."""
    rules = Rules.parse(settings.remove_at, settings.review_unjudged)

    def policy(verdict: Mapping[str, Any], key: str, timestamp_ms: int) -> dict[str, Any]:
        return action_of(verdict, key, timestamp_ms, rules)

    def decisions(label: Mapping[str, Any], key: str, timestamp_ms: int) -> dict[str, Any] | None:
        return action_of_review(label, timestamp_ms)

    return {
        "policy": (POLICY, _function(POLICY, policy)),
        "decisions": (DECISIONS, _function(DECISIONS, decisions)),
        "timely": (TIMELY, _timely),
        "validate": (VALIDATE, lambda address, ids, worker, metrics: _validation(settings, address, ids, worker, metrics)),
    }


def _function(consumption: Consumption, function: Function) -> Build:
    def build(address: KafkaAddress, ids: Registry, worker: str, metrics: Metrics) -> Part:
        step = RecordStep(consumption, function, "content_id", ids, worker)
        return Part(inline(step.process, step.answer))

    return build


def _timely(address: KafkaAddress, ids: Registry, worker: str, metrics: Metrics) -> Part:
    def passed(label: Mapping[str, Any], key: str, timestamp_ms: int) -> dict[str, Any] | None:
        if is_timely(label, timestamp_ms):
            return dict(label)
        metrics.add("late_labels", 1)
        return None

    step = RecordStep(TIMELY, passed, "request_id", ids, worker)
    return Part(inline(step.process, step.answer))


def _validation(settings: ProcessorSettings, address: KafkaAddress, ids: Registry, worker: str, metrics: Metrics) -> Part:
    clock = SystemClock()

    def read_back(positions: Mapping[int, int], window_ms: int) -> Iterator[tuple[int, list[bytes | None], list[int]]]:
        """The window ends at the next record to be read, not now: after a stop of an hour its repeats lie an hour back."""
        nexts = first_times(address, {(USER_EVENTS.name, number): offset for number, offset in positions.items()}, clock)
        for partition in positions:
            from_ms = nexts.get((USER_EVENTS.name, partition), clock.now_ms()) - window_ms
            for part in since(address, USER_EVENTS_VALID.name, [partition], from_ms, clock):
                yield partition, part.values, part.timestamps_ms

    seen = Seen(settings.dedupe_s * 1000, in_flight=4 * LoopLimits().look_ahead_records)  # offsets have gaps
    step = Validation(ids, worker, metrics, seen, read_back, settings.replay_days * DAY_MS)
    return Part(inline(step.process, step.answer), step)


def make_loop(
    consumption: Consumption,
    build: Build,
    slot: int | str,
    settings: GroupSettings,
    further: Sequence[Follower],
    limits: LoopLimits,
    kind: str = "processor",
    *,
    alone: bool = False,
) -> Loop:
    """alone: one process reads the whole topic, as a static member of its group. Raises BrokerUnavailable, SchemaRefused."""
    group, clock = consumption.group, SystemClock()
    worker, ids = f"{group}-{slot}", Registry(settings.registry)
    address = KafkaAddress(
        bootstrap=settings.bootstrap,
        protocol=settings.group_protocol,
        session_timeout_ms=settings.session_timeout_ms,
        transaction_timeout_ms=settings.transaction_timeout_ms,
        instance=worker if alone else "",
    )
    metrics = Metrics(worker=worker, task=group)
    part = build(address, ids, worker, metrics)
    exactly_once = limits.delivery is Delivery.EXACTLY_ONCE
    loop = Loop(
        consumption=consumption,
        source=KafkaSource(address, group, metrics),
        sink=KafkaSink(address, f"millrace-{group}-{slot}" if exactly_once else None),
        step=part.step,
        batcher=Batcher(BatchLimits(max_rows=500), CostLine()),
        clock=clock,
        limits=limits,
        worker=worker,
        metrics=metrics,
        state=part.state,
        followers=[*further, *part.followers],
    )
    side = KafkaSink(address, None)
    loop.followers.append(Status(lambda: loop, side, ids, clock, metrics, worker, kind, group, serve_metrics(metrics), dict))
    return loop


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="processors", description="Run processors.")
    parser.add_argument("names", nargs="+", choices=["policy", "decisions", "timely", "validate"])
    parser.add_argument(
        "--slot", type=whole(0), help="number of this process, which names its transactional ids; else the host does"
    )
    chosen = parser.parse_args(arguments)

    def made() -> list[Loop]:
        settings = load(ProcessorSettings, os.environ)
        configure_logging(settings.log_json)
        known = parts(settings)
        cleaner = [Cleaner(Blobs(settings.blob_roots.split()), SystemClock())] if settings.blob_roots else []
        loops: list[Loop] = []
        for name in chosen.names:
            further = cleaner if not loops else []
            loops.append(make_loop(*known[name], slot_name(chosen.slot), settings, further, LoopLimits()))
        return loops

    return serve(made)
