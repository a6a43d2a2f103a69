"""The process shell: logging, signals, metrics address, status, exit codes. Every long-lived process starts here.

Exit codes: 0 after a clean stop, 1 after `Stop` (the reason is the log's last line), 3 when another process took the
place (`Fenced`). A loop that stands still past `STALL_LIMIT_S` ends the process with a stack trace, so that the
group and the keeper notice.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from types import FrameType
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, start_http_server

from schemas.codec import Encoder, SchemaIds
from schemas.errors import Fenced, MillraceError, Stop, TransactionAborted
from schemas.generated import WorkerStatus
from schemas.topics import WORKER_STATUS
from streams.broker import Sink
from streams.clock import Clock, SystemClock
from streams.headers import cloud_event
from streams.ids import uuid7
from streams.loop.loop import Follower, Loop
from streams.metrics import Metrics
from streams.rows import OutRecords, Place

STALL_LIMIT_S = 240.0  # under max.poll.interval.ms, so that the process ends before the group gives it up
STATUS_EVERY_S = 1.0
EXIT_LIMIT_S = 5.0  # after the loops have ended; then threads that hang are left behind


def configure_logging(json_lines: bool) -> None:
    """One line an event on standard error: JSON for programs, columns for people."""
    renderer: Any = (
        structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


class Watchdog:
    """Ends the process with a stack trace when one of its loops has stood still past STALL_LIMIT_S, or a call of its step on another
    thread: the group goes on without it, its claims stay, and the next owners find the record that it hangs on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen_s: dict[str, float] = {}
        self._armed_s = float("-inf")

    def of(self, loop: Loop) -> Follower:
        """What the loop calls between batches."""
        return _Watched(self, loop)

    def saw(self, loop: str, working_since_s: float | None) -> None:
        now_s = self._clock.monotonic_s()
        self._seen_s[loop] = now_s if working_since_s is None else working_since_s
        if now_s - self._armed_s >= 1.0:
            self._armed_s = now_s
            faulthandler.dump_traceback_later(self.left_s(now_s), exit=True)

    def left_s(self, now_s: float) -> float:
        """Seconds until the process ends if nothing moves."""
        return max(0.1, STALL_LIMIT_S - (now_s - min(list(self._seen_s.values()))))


@dataclass(frozen=True)
class _Watched:
    watchdog: Watchdog
    loop: Loop

    def follow(self) -> None:
        self.watchdog.saw(self.loop.worker, self.loop.step.working_since_s())


class Status:
    """Implements `streams.loop.loop.Follower`: once a second, what this process is doing, on `worker-status-v1`."""

    def __init__(
        self,
        loop: Callable[[], Loop],
        sink: Sink,
        ids: SchemaIds,
        clock: Clock,
        metrics: Metrics,
        process: str,
        kind: str,
        task: str,
        address: str,
        versions: Callable[[], dict[str, str]],
        digests: Callable[[], dict[str, str]] = dict,
        notes: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """notes: what keeps the process from what was asked of it, in words."""
        self._loop, self._sink, self._clock, self._metrics = loop, sink, clock, metrics
        self._process, self._kind, self._task, self._address, self._versions = process, kind, task, address, versions
        self._digests, self._notes = digests, notes
        self._encoder = Encoder("worker-status", WORKER_STATUS.subject, ids)
        self._sent_s = float("-inf")
        self._busy_s = 0.0

    def follow(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._sent_s >= STATUS_EVERY_S:
            self.send("holding" if self._loop().held_back else "running", now_s)

    def send(self, state: str, now_s: float) -> None:
        """Best effort: a status that cannot be sent is not worth a worker."""
        busy_s = self._metrics.sum_of("step_seconds")
        elapsed_s = max(1e-9, now_s - self._sent_s)
        share = min(1.0, (busy_s - self._busy_s) / elapsed_s) if elapsed_s < 3600 else 0.0
        self._sent_s, self._busy_s = now_s, busy_s
        assignment = self._loop().assignment
        self._metrics.set("in_flight", assignment.in_flight_records)
        total = self._metrics.total
        status = WorkerStatus(
            process=self._process, kind=self._kind, task=self._task, state=state, at_ms=self._clock.now_ms(), pid=os.getpid(),
            metrics_address=self._address, records_in=int(total("records_in")), records_out=int(total("records_out")),
            dead_letters=int(total("dead_letters")), retries=int(total("retries")), expired=int(total("expired")),
            batches=int(total("batches")), busy_share=share, in_flight=assignment.in_flight_records,
            paused_partitions=tuple(f"{topic}/{number}" for topic, number in self._held()),
            versions=self._versions(), digests=self._digests(), notes=(*self._holding(), *self._notes()),
        )  # fmt: skip
        self._metrics.set("held_partitions", len(status.paused_partitions))
        headers = cloud_event([uuid7(status.at_ms)], "worker-status", self._process)
        records = OutRecords(WORKER_STATUS.name, [self._process.encode()], [self._encoder.encode_one(status)], headers)
        try:
            self._sink.produce(records)
        except TransactionAborted as error:
            structlog.get_logger().warning("status not sent", cause=str(error))

    def _holding(self) -> Iterable[str]:
        """Why it does not work on what it might, in words."""
        loop = self._loop()
        stopped = (f"{topic}/{number} is stopped: {why}" for (topic, number), why in loop.assignment.pauses.stopped.items())
        return (*([f"work is held back: {loop.held_back}"] if loop.held_back else []), *stopped)

    def _held(self) -> Iterable[Place]:
        """Partitions that are not worked on: all while the loop holds back."""
        loop = self._loop()
        return (
            sorted(loop.source.assignment()) if loop.held_back else {*loop.assignment.pauses.stopped, *loop.assignment.standing}
        )


def serve_metrics(*metrics: Metrics) -> str:
    """Prometheus on a free loopback port; its address."""
    registry = CollectorRegistry()
    for one in metrics:
        registry.register(one)
    server, _ = start_http_server(0, "127.0.0.1", registry)
    return f"127.0.0.1:{server.server_port}"


def spare_the_collector() -> None:
    """What lives as long as the process is taken out of Python's cyclic collector, which otherwise walks it again and
    again while batches come and go (a quarter of the worker's time); cycles of requests are rare and still found."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def stop_event() -> Event:
    """Set by SIGTERM and SIGINT; a second signal ends the process at once. SIGUSR1 writes the stacks of all threads."""
    stopping = Event()
    faulthandler.enable()  # a fault in a native library ends the process with the stacks of its threads in the log
    faulthandler.register(signal.SIGUSR1)

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stopping


def serve(make: Callable[[], Sequence[Loop]]) -> int:
    """A process of loops, from its first setting to its exit code: what cannot be made says why on standard error. The process must
    end after it: threads that still hang are given EXIT_LIMIT_S, and are then left behind with a stack trace."""
    stopping = stop_event()
    try:
        loops = make()
    except MillraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    watchdog = Watchdog(SystemClock())
    for loop in loops:
        loop.followers.append(watchdog.of(loop))
    code = run(loops, stopping)
    faulthandler.dump_traceback_later(EXIT_LIMIT_S, exit=True)
    return code


def slot_name(slot: int | None) -> str:
    """What tells the transactional ids of a group's processes apart: the number that was given, else the name of this host, so that
    processes of two hosts do not take each other's place."""
    return socket.gethostname() if slot is None else str(slot)


def run(loops: Sequence[Loop], stopping: Event) -> int:
    """Run loops to their end, each on a thread of its own but the first; the exit code. Where one fails, all stop."""
    spare_the_collector()
    codes = [0] * len(loops)

    def one(number: int) -> None:
        codes[number] = _run_one(loops[number], stopping)
        stopping.set()

    threads = [Thread(target=one, args=(number,), name=f"loop-{number}") for number in range(1, len(loops))]
    for thread in threads:
        thread.start()
    one(0)
    for thread in threads:
        thread.join()
    faulthandler.cancel_dump_traceback_later()
    return max(codes)


def _run_one(loop: Loop, stopping: Event) -> int:
    log = structlog.get_logger().bind(worker=loop.worker)
    try:
        loop.run(stopping.is_set)
    except Fenced as fenced:
        log.error("stopped", code=fenced.code, cause=str(fenced))
        return 3
    except Stop as stop:
        log.error("stopped", code=stop.code, cause=str(stop))
        return 1
    except Exception:  # a fault of ours: the other loops must not go on without it
        log.exception("stopped", code="fault")
        return 1
    log.info("stopped", code="clean")
    return 0
