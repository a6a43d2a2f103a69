"""Wires one worker process: settings to broker, registry, models, step and loop, once for each task it hosts."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable, Sequence

from inference_workers.failpoints import kill_at, kill_on
from inference_workers.served.served_models import Models
from inference_workers.settings import MediaSettings, WorkerSettings
from inference_workers.task import Task, find_task
from inference_workers.worker import TaskStep
from processors.features.enrich import Enrich
from processors.features.online_store import RedisStore
from schemas.codec import SchemaIds
from schemas.errors import BadSettings
from schemas.topics import MODEL_UPDATES
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource
from streams.loop.batching import Batcher, BatchLimits, CostLine
from streams.loop.loop import Delivery, Loop, LoopLimits
from streams.loop.outcome import Outcome
from streams.loop.quarantine import Quarantine
from streams.loop.step import BatchStep, Process
from streams.metrics import Metrics
from streams.process.arguments import whole
from streams.process.settings import load
from streams.process.shares import Shares
from streams.process.shell import Status, configure_logging, serve, serve_metrics, slot_name
from streams.rows import OutRecords, Rows
from streams.schema_registry import Registry

CATCH_UP_LIMIT_S = 20.0  # under the quarantine's limit for a record


def _address(settings: WorkerSettings) -> KafkaAddress:
    return KafkaAddress(
        bootstrap=settings.bootstrap,
        protocol=settings.group_protocol,
        session_timeout_ms=settings.session_timeout_ms,
        transaction_timeout_ms=settings.transaction_timeout_ms,
    )


def _step(
    task: Task,
    models: Models,
    redis: str,
    ids: SchemaIds,
    worker: str,
    metrics: Metrics,
    line: CostLine,
    shares: Shares | None,
    before: Callable[[Process], Process] = lambda process: process,
) -> BatchStep:
    media = load(MediaSettings, os.environ, task.name).reader()
    if task.reads_media:
        media.start()
    enrich = Enrich(task.needs, RedisStore(redis) if task.needs else None, SystemClock(), metrics)
    work = TaskStep(task, models, media, enrich, ids, SystemClock(), worker, metrics)
    process = kill_on(os.environ, before(work.process))
    if shares is not None:
        process = shares.shared(task.name, process)
    return BatchStep(process, work.answer, SystemClock(), line, closing=media.close)


def suspect_step(task_name: str, settings: WorkerSettings, worker: str) -> BatchStep:
    """The step of a quarantine child: everything made anew, nothing shared with the parent. No loop drives it, so it follows the
    updates of models itself, before each record."""
    configure_logging(settings.log_json)
    task, ids, metrics = find_task(task_name), Registry(settings.registry), Metrics()
    updates = KafkaBroadcast(_address(settings), MODEL_UPDATES.name, SystemClock())
    models = Models(task, updates, ids, SystemClock(), worker, metrics, _drop, settings.sources())

    def by_what_is_announced(process: Process) -> Process:
        def caught_up(rows: Rows) -> list[Outcome]:
            models.catch_up(CATCH_UP_LIMIT_S)
            return process(rows)

        return caught_up

    return _step(task, models, settings.redis, ids, worker, metrics, CostLine(), None, by_what_is_announced)


def _drop(records: OutRecords) -> None:
    """A child reports nothing; its parent does."""


def make_loop(
    task_name: str,
    slot: str,
    settings: WorkerSettings,
    failpoint: Callable[[str], None],
    shares: Shares | None = None,
) -> Loop:
    """Everything of one task, ready to run. Raises BrokerUnavailable, SchemaRefused, ModelRefused."""
    task, clock, worker = find_task(task_name), SystemClock(), f"{task_name}-{slot}"
    ids, address = Registry(settings.registry), _address(settings)
    metrics, line = Metrics(worker=worker, task=task_name), CostLine()
    side = KafkaSink(address, None)
    updates = KafkaBroadcast(address, MODEL_UPDATES.name, clock)
    models = Models(task, updates, ids, clock, worker, metrics, side.produce, settings.sources())
    exactly_once = settings.delivery is Delivery.EXACTLY_ONCE
    group = task.consumption.group
    loop = Loop(
        consumption=task.consumption,
        source=KafkaSource(address, group, metrics),
        sink=KafkaSink(address, f"millrace-{group}-{slot}" if exactly_once else None),
        step=_step(task, models, settings.redis, ids, worker, metrics, line, shares),
        batcher=Batcher(BatchLimits(settings.max_batch, settings.max_batch_kib * 1024, settings.max_wait_ms), line),
        clock=clock,
        limits=LoopLimits(
            delivery=settings.delivery,
            commit_interval_ms=settings.commit_interval_ms,
            look_ahead_records=settings.look_ahead,
            max_failures_in_a_row=settings.max_failures_in_a_row,
        ),
        worker=worker,
        metrics=metrics,
        quarantine=Quarantine(functools.partial(suspect_step, task_name, settings, worker)),
        followers=[models],
        failpoint=failpoint,
    )
    loop.followers.append(
        Status(
            lambda: loop,
            side,
            ids,
            clock,
            metrics,
            worker,
            "worker",
            task_name,
            serve_metrics(metrics),
            models.versions,
            models.digests,
            models.notes,
        )
    )
    return loop


def shares_of(words: Sequence[str]) -> dict[str, float]:
    """`moderation:3` to the task and its share of the device; 1 where none is given. Raises BadSettings."""
    found: dict[str, float] = {}
    for word in words:
        name, _, weight = word.partition(":")
        try:
            found[name] = float(weight or 1)
        except ValueError:
            found[name] = 0.0
        if not found[name] > 0:
            raise BadSettings(f"--task {word}: a share is a number above 0, as in {name}:3")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="inference_workers", description="Run a worker process.")
    parser.add_argument(
        "--task", required=True, action="append", help="a task it answers; may be given more than once, with shares: vision:2"
    )
    parser.add_argument(
        "--slot", type=whole(0), help="number of this worker, which names its transactional ids; else the host does"
    )
    chosen = parser.parse_args(arguments)

    def made() -> list[Loop]:
        weights = shares_of(chosen.task)
        shares = Shares(weights, SystemClock()) if len(weights) > 1 else None
        failpoint = kill_at(os.environ)
        loops: list[Loop] = []
        for name in weights:
            settings = load(WorkerSettings, os.environ, name)
            configure_logging(settings.log_json)
            loops.append(make_loop(name, slot_name(chosen.slot), settings, failpoint, shares))
        return loops

    return serve(made)
