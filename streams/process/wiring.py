"""Builds a loop from source, sink, step, batcher and status. Every process of every package creates its loops here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.topic_kinds import Consumption
from streams.broker import Sink
from streams.clock import Clock, SystemClock
from streams.daemon_thread import DaemonThread
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource
from streams.loop.batching import Batcher, BatchLimits, CostLine
from streams.loop.limits import Delivery, LoopLimits
from streams.loop.loop import Loop
from streams.loop.processor import Periodic, Processor
from streams.loop.quarantine import Quarantine
from streams.loop.step import BatchStep, Step
from streams.metrics import Metrics
from streams.process.group_settings import GroupSettings
from streams.process.shell import serve_metrics
from streams.process.status import Status
from streams.schema_registry import Registry
from streams.sinks_in_turn import sink_of_loop


@dataclass(frozen=True)
class Surroundings:
    """The objects from which the step of a loop is built. side: a producer outside the transaction, for reports. line: predicts
    the duration of a batch from its cost; step and batcher share it."""

    address: KafkaAddress
    registry: Registry
    clock: Clock
    worker: str
    metrics: Metrics
    side: Sink
    line: CostLine

    def step(self, processor: Processor) -> BatchStep:
        return BatchStep(processor, self.clock, self.line)


Build = Callable[[Surroundings], Step]


@dataclass(frozen=True, kw_only=True)
class LoopPlan:
    """The plan from which a loop is built. kind, name: shown in its status; the default name is the group. alone: whether one
    process reads the whole topic, as a static member of its group. linger_ms: at least once, how long records wait for others that go
    to the broker with them."""

    consumption: Consumption
    build: Build
    kind: str
    name: str = ""
    limits: LoopLimits = LoopLimits()
    batches: BatchLimits = BatchLimits(max_rows=500)
    alone: bool = False
    linger_ms: float = 0
    periodic: Sequence[Periodic] = ()
    quarantine: Quarantine | None = None
    failpoint: Callable[[str], None] = lambda name: None


def make_loop(plan: LoopPlan, settings: GroupSettings, slot: int | str) -> Loop:
    """slot: distinguishes the transactional ids of a group's processes. Raises BrokerUnavailable, SchemaRefused, and errors of
    `build`."""
    group, clock, name = plan.consumption.group, SystemClock(), plan.name or plan.consumption.group
    worker, registry = f"{name}-{slot}", Registry(settings.registry)
    address, metrics, line = settings.address(worker if plan.alone else ""), Metrics(worker=worker, task=name), CostLine()
    side, exactly_once = KafkaSink(address, None), plan.limits.delivery is Delivery.EXACTLY_ONCE
    step = plan.build(Surroundings(address, registry, clock, worker, metrics, side, line))
    loop = Loop(
        consumption=plan.consumption,
        source=KafkaSource(address, group, metrics),
        sink=sink_of_loop(
            functools.partial(KafkaSink, address, linger_ms=plan.linger_ms), f"millrace-{group}-{slot}" if exactly_once else None
        ),
        step=step,
        batcher=Batcher(plan.batches, line),
        clock=clock,
        limits=plan.limits,
        worker=worker,
        metrics=metrics,
        background=DaemonThread("commit"),
        quarantine=plan.quarantine,
        periodic=plan.periodic,
        failpoint=plan.failpoint,
    )
    loop.periodic.append(Status(loop, side, registry, clock, plan.kind, name, serve_metrics(metrics)))
    return loop
