"""Wires one worker process: creates broker client, registry, models, step and loop from settings, for each task that it hosts."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable, Sequence

from inference_workers.failpoints import kill_at, kill_on
from inference_workers.served.followed_items import FollowedItems
from inference_workers.served.served_models import ServedModels
from inference_workers.settings import MediaSettings, WorkerSettings
from inference_workers.task import Task, Version, find_task, take_items
from inference_workers.worker import TaskProcessor
from processors.features.enrich import Enrich
from processors.features.online_store import RedisStore
from schemas.catalogue import declaration
from schemas.chat_topics import CHAT
from schemas.codec import SchemaIds
from schemas.errors import BadSettings
from schemas.topics import ITEMS, MODEL_UPDATES
from streams.clock import Clock, SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.loop.batching import CostLine
from streams.loop.loop import Loop
from streams.loop.outcome import Outcome
from streams.loop.quarantine import Quarantine
from streams.loop.step import BatchStep, Process, Step
from streams.metrics import Metrics
from streams.process.arguments import whole
from streams.process.settings import load
from streams.process.shares import Shares
from streams.process.shell import configure_logging, serve, slot_name
from streams.process.wiring import LoopPlan, Surroundings, make_loop
from streams.rows import OutRecords, Rows
from streams.schema_registry import Registry

CATCH_UP_LIMIT_S = 20.0  # less than the quarantine's limit per record


def suspect_step(task_name: str, settings: WorkerSettings, worker: str) -> BatchStep:
    """The step of a quarantine child. It creates all its parts anew and shares nothing with the parent. No loop drives it, so it
    follows the updates of models itself, before each record."""
    configure_logging(settings.log_json)
    task, registry, clock, metrics = find_task(task_name), Registry(settings.registry), SystemClock(), Metrics()
    models, items = _models_and_items(task, settings, settings.address(), registry, clock, worker, metrics, _drop)

    def by_announced_versions(process: Process) -> Process:
        def caught_up(rows: Rows) -> list[Outcome]:
            models.catch_up(CATCH_UP_LIMIT_S)
            return process(rows)

        return caught_up

    processor = _processor(task, models, items, settings.redis, registry, clock, worker, metrics)
    return BatchStep(processor, clock, CostLine(), around=lambda process: kill_on(os.environ, by_announced_versions(process)))


def _drop(records: OutRecords) -> None:
    """A quarantine child writes no acknowledgements; its parent does."""


def _models_and_items(
    task: Task,
    settings: WorkerSettings,
    address: KafkaAddress,
    registry: SchemaIds,
    clock: Clock,
    worker: str,
    metrics: Metrics,
    report: Callable[[OutRecords], None],
) -> tuple[ServedModels, FollowedItems | None]:
    """The items first: a version gets them before it answers."""
    take, items = take_items(task), None
    if take is not None:
        items = FollowedItems(KafkaBroadcast(address, ITEMS.name, clock), registry, clock, metrics, take)
    updates = KafkaBroadcast(address, MODEL_UPDATES.name, clock)
    complete: Callable[[Version], None] = (lambda version: None) if items is None else lambda version: items.bring_up([version])
    return ServedModels(task, updates, registry, clock, worker, metrics, report, settings.sources(), complete), items


def _processor(
    task: Task,
    models: ServedModels,
    items: FollowedItems | None,
    redis: str,
    registry: SchemaIds,
    clock: Clock,
    worker: str,
    metrics: Metrics,
) -> TaskProcessor:
    media = load(MediaSettings, os.environ, task.name).reader()
    if task.reads_media:
        media.start()
    enrich = Enrich(task.needs, RedisStore(redis) if task.needs else None, clock, metrics)
    return TaskProcessor(task, models, media, enrich, registry, clock, worker, metrics, items)


def plan(
    task_name: str, settings: WorkerSettings, failpoint: Callable[[str], None], shares: Shares | None, slot: str
) -> LoopPlan:
    """The loop plan of one task. Building the plan's step raises BrokerUnavailable, SchemaRefused, ModelRefused."""
    if task_name == CHAT.group:
        from inference_workers.chat_service.chat_loop import chat_plan  # torch takes seconds to import

        return chat_plan(settings, failpoint)
    task = find_task(task_name)

    def around(process: Process) -> Process:
        guarded = kill_on(os.environ, process)
        return shares.shared(task.name, guarded) if shares is not None else guarded

    def build(given: Surroundings) -> Step:
        parts = given.registry, given.clock, given.worker, given.metrics
        models, items = _models_and_items(task, settings, given.address, *parts, given.side.produce)
        processor = _processor(task, models, items, settings.redis, *parts)
        return BatchStep(processor, given.clock, given.line, around=around)

    return LoopPlan(
        consumption=task.consumption,
        build=build,
        kind="worker",
        name=task_name,
        batches=settings.batches(),
        limits=settings.limits(settings.delivery),
        quarantine=Quarantine(functools.partial(suspect_step, task_name, settings, f"{task_name}-{slot}")),
        failpoint=failpoint,
    )


def declared_limits(task: str) -> dict[str, int | float]:
    """The settings of a worker that a declaration gives."""
    declared = declaration(task)
    if declared is None:
        return {}
    limits = {"max_batch_requests": declared.max_batch, "max_wait_ms": declared.max_wait_ms}
    return {name: value for name, value in limits.items() if value is not None}


def shares_of(words: Sequence[str]) -> dict[str, float]:
    """Parses words such as `moderation:3` to each task's share of the device, which is 1 by default. Raises BadSettings."""
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
            settings = load(WorkerSettings, os.environ, name, declared_limits(name))
            configure_logging(settings.log_json)
            slot = slot_name(chosen.slot)
            loops.append(make_loop(plan(name, settings, failpoint, shares, slot), settings, slot))
        return loops

    return serve(made)
