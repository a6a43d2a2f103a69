"""Wires one worker process: settings to broker, registry, model, step and loop."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence

from inference_workers.failpoints import kill_at, kill_on
from inference_workers.live import Live
from inference_workers.settings import WorkerSettings
from inference_workers.task import Task, find_task
from inference_workers.worker import TaskStep
from schemas.codec import SchemaIds
from schemas.errors import MillraceError
from schemas.topics import MODEL_UPDATES
from streams.batching import Batcher, BatchLimits, CostLine
from streams.claims import Quarantine
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource
from streams.loop import Delivery, Loop, LoopLimits
from streams.metrics import Metrics
from streams.registry import Registry
from streams.rows import OutRecords
from streams.service import Status, configure_logging, run, serve_metrics, stop_event
from streams.settings import load
from streams.step import BatchStep


def _address(settings: WorkerSettings) -> KafkaAddress:
    return KafkaAddress(
        bootstrap=settings.bootstrap,
        protocol=settings.group_protocol,
        session_timeout_ms=settings.session_timeout_ms,
        transaction_timeout_ms=settings.transaction_timeout_ms,
    )


def _step(task: Task, live: Live, ids: SchemaIds, worker: str, metrics: Metrics, line: CostLine) -> BatchStep:
    work = TaskStep(task, live, ids, SystemClock(), worker, metrics)
    return BatchStep(kill_on(os.environ, work.process), work.answer, SystemClock(), line)


def suspect_step(task_name: str, settings: WorkerSettings, worker: str) -> BatchStep:
    """The step of a quarantine child: everything made anew, nothing shared with the parent."""
    configure_logging(settings.log_json)
    task, ids, metrics = find_task(task_name), Registry(settings.registry), Metrics()
    updates = KafkaBroadcast(_address(settings), MODEL_UPDATES.name, SystemClock())
    live = Live(task, updates, ids, SystemClock(), worker, metrics, _drop, settings.model_uri)
    return _step(task, live, ids, worker, metrics, CostLine())


def _drop(records: OutRecords) -> None:
    """A child reports nothing; its parent does."""


def make_loop(task_name: str, slot: int, settings: WorkerSettings, failpoint: Callable[[str], None]) -> Loop:
    """Everything of one worker, ready to run. Raises BrokerUnavailable, SchemaRefused, ModelRefused."""
    task, clock, worker = find_task(task_name), SystemClock(), f"{task_name}-{slot}"
    ids, address = Registry(settings.registry), _address(settings)
    metrics, line = Metrics(worker=worker, task=task_name), CostLine()
    side = KafkaSink(address, None)
    live = Live(
        task, KafkaBroadcast(address, MODEL_UPDATES.name, clock), ids, clock, worker, metrics, side.produce, settings.model_uri
    )
    exactly_once = settings.delivery is Delivery.EXACTLY_ONCE
    group = task.consumption.group
    followers: list[Live | Status] = [live]
    loop = Loop(
        consumption=task.consumption,
        source=KafkaSource(address, group, metrics),
        sink=KafkaSink(address, f"millrace-{group}-{slot}" if exactly_once else None),
        step=_step(task, live, ids, worker, metrics, line),
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
        followers=followers,
        failpoint=failpoint,
    )
    versions = {task.model: live}
    followers.append(Status(
        lambda: loop, side, ids, clock, metrics, worker, task_name, serve_metrics(metrics),
        lambda: {model: held.current.folder.version for model, held in versions.items()},
    ))  # fmt: skip
    return loop


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="inference_workers", description="Run one inference worker.")
    parser.add_argument("--task", required=True)
    parser.add_argument("--slot", type=int, default=0, help="number of this worker; names its transactional id")
    chosen = parser.parse_args(arguments)
    stopping = stop_event()
    try:
        settings = load(WorkerSettings, os.environ, chosen.task)
        configure_logging(settings.log_json)
        loop = make_loop(chosen.task, chosen.slot, settings, kill_at(os.environ))
    except MillraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    return run(loop, stopping)
