"""Wires the processors that our loop runs: `policy` (verdicts to actions) and `decisions` (reviewers' labels to actions)."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from processors.cleaner import Cleaner
from processors.policy import Rules, action_of, action_of_review
from processors.settings import ProcessorSettings
from processors.step import Function, RecordStep
from schemas.errors import MillraceError
from schemas.topics import DECISIONS, POLICY, Consumption
from streams.batching import Batcher, BatchLimits, CostLine
from streams.blobs import Blobs
from streams.clock import SystemClock
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource
from streams.loop import Follower, Loop, LoopLimits
from streams.metrics import Metrics
from streams.registry import Registry
from streams.service import Status, Watchdog, configure_logging, run, serve_metrics, stop_event
from streams.settings import load
from streams.step import BatchStep


def functions(settings: ProcessorSettings) -> dict[str, tuple[Consumption, Function]]:
    """By name: what is read, and what is made of each record. Raises BadSettings."""
    rules = Rules.parse(settings.remove_at, settings.review_unjudged)
    return {
        "policy": (POLICY, lambda verdict, key, timestamp_ms: action_of(verdict, key, timestamp_ms, rules)),
        "decisions": (DECISIONS, lambda label, key, timestamp_ms: action_of_review(label, timestamp_ms)),
    }


def make_loop(
    consumption: Consumption, function: Function, slot: int, settings: ProcessorSettings, further: Sequence[Follower]
) -> Loop:
    """Raises BrokerUnavailable, SchemaRefused."""
    group, clock = consumption.group, SystemClock()
    worker, ids = f"{group}-{slot}", Registry(settings.registry)
    address = KafkaAddress(
        bootstrap=settings.bootstrap,
        protocol=settings.group_protocol,
        session_timeout_ms=settings.session_timeout_ms,
        transaction_timeout_ms=settings.transaction_timeout_ms,
    )
    metrics, line = Metrics(worker=worker, task=group), CostLine()
    step = RecordStep(consumption, function, "content_id", ids, worker)
    followers = list(further)
    loop = Loop(
        consumption=consumption,
        source=KafkaSource(address, group, metrics),
        sink=KafkaSink(address, f"millrace-{group}-{slot}"),
        step=BatchStep(step.process, step.answer, clock, line),
        batcher=Batcher(BatchLimits(max_rows=500), line),
        clock=clock,
        limits=LoopLimits(),
        worker=worker,
        metrics=metrics,
        followers=followers,
    )
    side = KafkaSink(address, None)
    followers.append(Status(lambda: loop, side, ids, clock, metrics, worker, "processor", group, serve_metrics(metrics), dict))
    return loop


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="processors", description="Run processors.")
    parser.add_argument("names", nargs="+", choices=["policy", "decisions"])
    parser.add_argument("--slot", type=int, default=0, help="number of this process; names its transactional ids")
    chosen = parser.parse_args(arguments)
    stopping, clock = stop_event(), SystemClock()
    try:
        settings = load(ProcessorSettings, os.environ)
        configure_logging(settings.log_json)
        made, watchdog = functions(settings), Watchdog(clock)
        cleaner = [Cleaner(Blobs(settings.blob_roots.split()), clock)] if settings.blob_roots else []
        loops: list[Loop] = []
        for name in chosen.names:
            further = [watchdog.of(name), *(cleaner if not loops else [])]
            loops.append(make_loop(*made[name], chosen.slot, settings, further))
    except MillraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return run(loops, stopping)
