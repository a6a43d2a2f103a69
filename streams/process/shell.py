"""The process shell: logging, signals, metrics address, exit codes. Every long-lived process starts here.

Exit codes: 0 after a clean stop, 1 after `Stop` (the reason is the log's last line), 3 if another process took over (`Fenced`).
If a loop stands still for more than `watchdog.STALL_LIMIT_S`, the process ends with a stack trace, so that the group and the
keeper notice.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from threading import Event, Thread
from types import FrameType
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, start_http_server

from schemas.errors import Fenced, MillraceError, Stop
from streams.clock import SystemClock
from streams.loop.loop import Loop
from streams.metrics import Metrics
from streams.process.watchdog import Watchdog

EXIT_LIMIT_S = 5.0  # after the loops have ended; threads that still hang are then abandoned


def configure_logging(json_lines: bool) -> None:
    """One line per event on standard error: JSON for programs, columns for people."""
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


def serve_metrics(*metrics: Metrics) -> str:
    """Serve metrics for Prometheus on a free loopback port. Returns the address."""
    registry = CollectorRegistry()
    for one in metrics:
        registry.register(one)
    server, _ = start_http_server(0, "127.0.0.1", registry)
    return f"127.0.0.1:{server.server_port}"


def spare_the_collector() -> None:
    """Excludes objects that live as long as the process from Python's cyclic collector. Otherwise the collector visits them
    again and again while batches run (a quarter of the worker's time). It still finds cycles of requests, which are rare."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def stop_event() -> Event:
    """An event that SIGTERM and SIGINT set; a second signal ends the process at once. SIGUSR1 writes the stacks of all
    threads."""
    stopping = Event()
    faulthandler.enable()  # after a fault in a native library the log contains the stacks of all threads
    faulthandler.register(signal.SIGUSR1)

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stopping


def serve(make: Callable[[], Sequence[Loop]]) -> int:
    """Create loops and run them to their end. Returns the exit code; if the loops cannot be created, the reason is written to
    standard error. The process must exit afterwards: threads that still hang get EXIT_LIMIT_S and are then abandoned with a stack
    trace."""
    stopping = stop_event()
    try:
        loops = make()
    except MillraceError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    watchdog = Watchdog(SystemClock())
    for loop in loops:
        loop.periodic.append(watchdog.of(loop))
    code = run(loops, stopping)
    faulthandler.dump_traceback_later(EXIT_LIMIT_S, exit=True)
    return code


def slot_name(slot: int | None) -> str:
    """Distinguishes the transactional ids of a group's processes: the slot number, or the name of this host if there is none, so
    that processes of two hosts do not fence each other."""
    return socket.gethostname() if slot is None else str(slot)


def run(loops: Sequence[Loop], stopping: Event) -> int:
    """Run loops to their end, each except the first on its own thread. If one ends, all stop. Returns the exit code."""
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
    except Exception:  # a bug of ours: the other loops must not continue without this one
        log.exception("stopped", code="fault")
        return 1
    log.info("stopped", code="clean")
    return 0
