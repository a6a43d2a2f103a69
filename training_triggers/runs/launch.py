"""Starts the requested runs: one child process per run of `training-requests-v1`. Runs of one model run one after the other. Runs
of different models wait for their labels side by side, and train one after the other (`training_run.training`).

The launch is written first, in the transaction of its request's offset; the child starts once that is committed. If a launcher or
child was killed, its run is started again and continues where it stopped (`training_run.py`), so each request reaches exactly one
end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import structlog

from schemas.codec import Decoder, Encoder, SchemaIds
from schemas.errors import InvalidRequest
from schemas.generated import TrainingEvent, TrainingRequest
from schemas.topics import TRAINING_EVENTS, TRAINING_REQUESTS
from schemas.vocabulary import RunEvent
from streams import headers as h
from streams.broker import Broadcast, Commit
from streams.clock import Clock
from streams.loop.outcome import Emit, Outcome, Reject
from streams.loop.processor import Processor
from streams.process.record_processor import decoded
from streams.readable import Followed, Readable
from streams.rows import OutRecords, Place, Rows
from training_triggers.journal import OVER, is_run_key

LOOK_EVERY_S = 0.5
READ_LIMIT_S = 60.0
MOST_STARTS = 4  # of a child that dies: the machine lacks memory, or our code is at fault
STOP_LIMIT_S = 5.0


class Child(Protocol):
    def poll(self) -> int | None: ...
    def stop(self) -> None: ...


class Launch(Processor):
    """Step, state and follower of the loop. read: all events, from the first. start: starts a run's child. fail: writes why a run
    failed."""

    def __init__(
        self,
        ids: SchemaIds,
        worker: str,
        read: Callable[[], Broadcast],
        start: Callable[[str], Child],
        fail: Callable[[str, str, str], None],
        clock: Clock,
    ) -> None:
        self._worker, self._read, self._start, self._fail, self._clock = worker, read, start, fail, clock
        self._decoder = Decoder.of(TRAINING_REQUESTS, ids)
        self._encoder = Encoder.of(TRAINING_EVENTS, ids)
        self._readable = Readable(TRAINING_EVENTS, ids, TrainingEvent.from_dict)
        self._events: Followed[TrainingEvent] | None = None
        self._models: dict[str, str] = {}  # of launched runs, committed, in order
        self._over: set[str] = set()
        self._asked: dict[str, str] = {}  # launched in a transaction that may still be open
        self._children: dict[str, tuple[str, Child]] = {}  # by model, the child and its run
        self._starts: dict[str, int] = {}
        self._looked_s = float("-inf")
        self._log = structlog.get_logger().bind(worker=worker)

    # --- state beside the offsets --------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        self.forget(())
        self._events = Followed(self._read(), self._readable)
        self._take(self._events.read_to_end(READ_LIMIT_S))

    def forget(self, places: Iterable[Place]) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None
        self._models, self._over, self._asked = {}, set(), {}

    def _take(self, events: Iterable[TrainingEvent]) -> None:
        for event in events:
            if event.kind == RunEvent.LAUNCHED and is_run_key(event.run_key):
                self._models[event.run_key] = event.model
            if event.kind in OVER:
                self._over.add(event.run_key)

    # --- the step -----------------------------------------------------------------------------------------------

    def process(self, rows: Rows) -> list[Outcome]:
        columns, done, outcomes = decoded(self._decoder, rows)
        events: list[TrainingEvent] = []
        requests = [TrainingRequest.from_dict(record) for record in columns.records()]
        good = [row for row, request in enumerate(requests) if is_run_key(request.run_key)]
        if len(good) < len(done):
            error = InvalidRequest("its run_key names no run: 1 to 128 letters, digits, . _ and -, the first a letter or digit")
            outcomes.append(Reject(done.without(good), error, "launch"))
            requests, done = [requests[row] for row in good], done.take(good)
        for request, now_ms in zip(requests, done.timestamps_ms, strict=True):
            if request.run_key in self._models or request.run_key in self._asked:
                continue  # the same request again
            waiting = sum(model == request.model for key, model in (self._models | self._asked).items() if key not in self._over)
            self._asked[request.run_key] = request.model
            events.append(
                TrainingEvent(
                    run_key=request.run_key,
                    model=request.model,
                    kind=RunEvent.LAUNCHED,
                    cause=request.run_key,
                    at_ms=now_ms,
                    words=f"asked by {request.actor}: {request.reason}"
                    + (f"; {waiting} runs of the model come first" if waiting else ""),
                )
            )
        if not len(done):
            return outcomes
        if not events:
            return [*outcomes, Emit(done, [])]
        headers = h.cloud_event([f"{event.run_key}/launched" for event in events], "training-event", self._worker)
        values = [self._encoder.encode_one(event) for event in events]
        keys: list[bytes | None] = [event.model.encode() for event in events]
        return [*outcomes, Emit(done, [OutRecords(TRAINING_EVENTS.name, keys, values, headers)])]

    # --- between batches -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._events is None or now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        self._take(self._events.poll())
        for model, (run_key, child) in list(self._children.items()):
            code = child.poll()
            if code is None:
                continue
            del self._children[model]
            if code == 0:
                self._over.add(run_key)
            else:
                self._died(run_key, code)
        for run_key, model in self._models.items():
            if run_key in self._over or model in self._children:
                continue
            self._starts[run_key] = self._starts.get(run_key, 0) + 1
            self._log.info("run started", run_key=run_key, start=self._starts[run_key])
            self._children[model] = run_key, self._start(run_key)

    def _died(self, run_key: str, code: int) -> None:
        self._log.error("run ended before its end", run_key=run_key, code=code, start=self._starts[run_key])
        if self._starts[run_key] >= MOST_STARTS:
            self._over.add(run_key)
            self._fail(
                run_key, self._models[run_key], f"its process ended {MOST_STARTS} times, the last with {code}; its log says more"
            )

    def close(self) -> None:
        for _, child in self._children.values():
            child.stop()
        self._children = {}
        self.forget(())


class RunProcess:
    """A run's child, in its own session, with a log in the run's folder."""

    def __init__(self, run_key: str, runs: Path) -> None:
        folder = runs / run_key
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "training_triggers", "run", run_key],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        """End the child and all processes that it started; the next launcher continues the run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_LIMIT_S)
