"""The status of a loop: one record per second, which commands, the monitor and people read."""

from __future__ import annotations

import os
from collections.abc import Iterable

import structlog

from schemas.codec import SchemaIds
from schemas.errors import TransactionAborted
from schemas.generated import WorkerStatus
from schemas.topics import WORKER_STATUS
from streams.broker import Sink
from streams.clock import Clock
from streams.ids import uuid7
from streams.loop.loop import Loop
from streams.record_writer import RecordWriter
from streams.rows import Place

STATUS_EVERY_S = 1.0


class Status:
    """Implements `Periodic`: writes the state of a loop to `worker-status-v1` once per second."""

    def __init__(
        self,
        loop: Loop,
        sink: Sink,
        registry: SchemaIds,
        clock: Clock,
        kind: str,
        name: str,
        metrics_address: str,
    ) -> None:
        """kind: worker, processor, sink or trigger. name: the name of the task or the group."""
        self._loop, self._sink, self._clock, self._metrics = loop, sink, clock, loop.metrics
        self._kind, self._name, self._metrics_address = kind, name, metrics_address
        self._records = RecordWriter(WORKER_STATUS, registry, loop.worker)
        self._sent_s = float("-inf")
        self._busy_s = 0.0

    def tick(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._sent_s >= STATUS_EVERY_S:
            self.send("holding" if self._loop.held_back else "running", now_s)

    def send(self, state: str, now_s: float) -> None:
        """Send a status. This is best effort: a status that cannot be sent must not end the process."""
        busy_s = self._metrics.sum_of("step_seconds")
        elapsed_s = max(1e-9, now_s - self._sent_s)
        share = min(1.0, (busy_s - self._busy_s) / elapsed_s) if elapsed_s < 3600 else 0.0
        self._sent_s, self._busy_s = now_s, busy_s
        assignment = self._loop.assignment
        self._metrics.set("in_flight", assignment.in_flight_records)
        total = self._metrics.total
        report = self._loop.step.report()
        status = WorkerStatus(
            process=self._loop.worker,
            kind=self._kind,
            task=self._name,
            state=state,
            at_ms=self._clock.now_ms(),
            pid=os.getpid(),
            metrics_address=self._metrics_address,
            records_in=int(total("records_in")),
            records_out=int(total("records_out")),
            dead_letters=int(total("dead_letters")),
            retries=int(total("retries")),
            expired=int(total("expired")),
            batches=int(total("batches")),
            busy_share=share,
            in_flight=assignment.in_flight_records,
            paused_partitions=tuple(f"{topic}/{number}" for topic, number in self._held()),
            versions=dict(report.versions),
            digests=dict(report.digests),
            notes=(*self._holding(), *report.notes),
        )
        self._metrics.set("held_partitions", len(status.paused_partitions))
        records = self._records.of(status, self._loop.worker, uuid7(status.at_ms))
        try:
            self._sink.produce(records)
        except TransactionAborted as error:
            structlog.get_logger().warning("status not sent", cause=str(error))

    def _holding(self) -> Iterable[str]:
        """Why the loop is paused or partitions are stopped, as sentences."""
        loop = self._loop
        stopped = (f"{topic}/{number} is stopped: {why}" for (topic, number), why in loop.assignment.pauses.stopped.items())
        return (*([f"work is held back: {loop.held_back}"] if loop.held_back else []), *stopped)

    def _held(self) -> Iterable[Place]:
        """Partitions that are not processed: all of them while the loop is paused."""
        loop = self._loop
        return (
            sorted(loop.source.assignment()) if loop.held_back else {*loop.assignment.pauses.stopped, *loop.assignment.standing}
        )
