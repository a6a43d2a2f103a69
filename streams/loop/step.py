"""How the loop runs a processor: the step protocol, and the step that nearly all processors use.

A step takes batches with `submit` and gives outcomes with `completed`: any number, in any order, any time later. The
loop never knows whether the work ran inline, on a thread, in a child process or at a remote server.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Protocol

from schemas.errors import BatchTooLarge, DependencyUnavailable, MillraceError, PoisonRecord, RecordError, RetryLater, Stop
from streams.broker import Commit
from streams.clock import Clock
from streams.daemon_thread import DaemonThread
from streams.loop.batching import CostLine
from streams.loop.outcome import Defer, Outcome, Reject
from streams.loop.processor import Hooks, Processor, Report, keeps_state
from streams.rows import OutRecords, Place, Rows


class Step(Hooks, Protocol):
    """Subclass it explicitly to get the defaults of `Hooks`."""

    def submit(self, batch: Rows) -> None:
        """Take a batch. May compute it here; then the outcomes are there at the next `completed`."""
        ...

    def completed(self, wait_s: float) -> list[Outcome]:
        """Outcomes since the last call; waits at most `wait_s` for a first one. Each row ends exactly once.

        Raises Stop, and nothing else: a failure of a record is an outcome.
        """
        ...

    def busy(self) -> bool:
        """True while a submitted row has no outcome yet. False where rows wait in the step on purpose (`keeps`): they do not stop the
        loop from reading."""
        return False

    def takes_more(self) -> bool:
        """Whether it takes a batch now. A step that works on many rows at once takes more while it is busy."""
        return not self.busy()

    def keeps(self, place: Place) -> bool:
        """Whether rows of this partition wait in the step on purpose, for company, and not longer than the step's own limit. Such a
        partition does not stand still, although its committed offset does not move."""
        return False

    def takes_long(self, batch: Rows) -> bool:
        """Whether it may be long until this batch has its outcomes: no transaction should be open meanwhile."""
        return False

    def working_since_s(self) -> float | None:
        """When the call began that is not done yet, by the monotonic clock; None where none is. The watchdog asks."""
        return None


Process = Callable[[Rows], list[Outcome]]
HandOff = Callable[[Rows], None]
SEARCH_LIMIT_S = 60.0  # so long the culprits of a failing batch are looked for
HAND_OFF_MS = 1_000.0
INLINE = float("inf")  # never handed to a thread


class BatchStep(Step):
    """Runs a processor over batches: inline while they are short, on one thread when they are predicted to be long.

    A batch that fails is split in halves until the culprit is alone, so its neighbours are answered (`bisect`).
    Inline work keeps the loop from polling; past `hand_off_ms` a thread takes it, so that the group's poll interval,
    heartbeats of the process and revocations are served meanwhile. A batch that turns out to be too large goes there too, whatever
    was predicted. The thread is a daemon: one that hangs keeps no process alive.
    A processor with state beside its offsets is never run on a thread (`keeps_state`).
    """

    def __init__(
        self,
        processor: Processor,
        clock: Clock,
        line: CostLine,
        hand_off_ms: float = HAND_OFF_MS,
        around: Callable[[Process], Process] = lambda process: process,
    ) -> None:
        """around: wraps the processor's `process`, for example to wait for a shared device."""
        self.processor, self._process = processor, around(processor.process)
        self._clock = clock
        self._line = line
        self.hand_off_ms = INLINE if keeps_state(processor) else hand_off_ms
        self._done: deque[Outcome] = deque()
        self._thread: DaemonThread | None = None
        self._running: set[Future[list[Outcome]]] = set()
        self._call_began_s: float | None = None

    def submit(self, batch: Rows) -> None:
        if self._line.predict_ms(batch.bytes()) <= self.hand_off_ms and not self._running:
            self._done.extend(self._timed(batch, None if self.hand_off_ms == INLINE else self._hand_off))
        else:
            self._hand_off(batch)

    def _hand_off(self, batch: Rows) -> None:
        if self._thread is None:
            self._thread = DaemonThread("step")
        self._running.add(self._thread.submit(lambda: self._timed(batch)))

    def completed(self, wait_s: float) -> list[Outcome]:
        if self._running:
            finished, self._running = wait(self._running, 0 if self._done else wait_s, FIRST_COMPLETED)
            for future in finished:
                self._done.extend(future.result())
        outcomes = list(self._done)
        self._done.clear()
        return outcomes

    def busy(self) -> bool:
        return bool(self._running)

    def takes_long(self, batch: Rows) -> bool:
        return not self._line.knows or bool(self._running) or self._line.predict_ms(batch.bytes()) > self.hand_off_ms

    def working_since_s(self) -> float | None:
        return self._call_began_s

    def close(self) -> None:
        if self._thread is not None:
            self._thread.close()
        self.processor.close()

    # --- what the processor answers for itself --------------------------------------------------------------------

    def answer(self, rows: Rows, status: str, code: str, message: str) -> list[OutRecords]:
        return self.processor.answer(rows, status, code, message)

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        self.processor.restore(positions)

    def forget(self, places: Iterable[Place]) -> None:
        self.processor.forget(places)

    def tick(self) -> None:
        self.processor.tick()

    def report(self) -> Report:
        return self.processor.report()

    def _timed(self, batch: Rows, hand_off: HandOff | None = None) -> list[Outcome]:
        started_s = self._clock.monotonic_s()
        outcomes = bisect(self._call, batch, lambda: self._clock.monotonic_s() - started_s > SEARCH_LIMIT_S, hand_off)
        if hand_off is None or not self._running:  # else the halves that were handed off are observed where they run
            self._line.observe(batch.bytes(), (self._clock.monotonic_s() - started_s) * 1000)
        return outcomes

    def _call(self, rows: Rows) -> list[Outcome]:
        self._call_began_s = self._clock.monotonic_s()
        try:
            return self._process(rows)
        finally:
            self._call_began_s = None


def bisect(
    process: Process, batch: Rows, out_of_time: Callable[[], bool] = lambda: False, hand_off: HandOff | None = None
) -> list[Outcome]:
    """Outcomes of a batch whose bad rows are found by halving: log2(n) more calls for one bad row.

    What the whole batch lacks (`DependencyUnavailable`) is not looked for in its halves. Nor is anything once there is no time left:
    those rows are tried again later, in other company. A batch that is too large (`BatchTooLarge`) is halved whatever the time; where
    `hand_off` is given it takes the halves, and their outcomes are not among those returned.
    """
    try:
        return process(batch)
    except Stop:
        raise
    except DependencyUnavailable as error:
        return [Defer(batch, error, "task")]
    except Exception as error:  # anything a model or its preprocessing may raise: the record's fate, not the loop's
        if len(batch) == 1:
            return [_fate(batch, error)]
        is_too_large = isinstance(error, BatchTooLarge)
        if out_of_time() and not is_too_large:
            words = f"no time was left to find which of {len(batch)} records fails with: {type(error).__name__}: {error}"
            return [Defer(batch, RetryLater(words), "task")]
        middle = len(batch) // 2
        halves = batch.slice(0, middle), batch.slice(middle, len(batch))
        if is_too_large and hand_off is not None:
            for half in halves:
                hand_off(half)
            return []
        return [outcome for half in halves for outcome in bisect(process, half, out_of_time, hand_off)]


def _fate(row: Rows, error: Exception) -> Outcome:
    match error:
        case RetryLater():
            return Defer(row, error, "task")
        case RecordError():
            return Reject(row, error, "task")
        case MillraceError():
            return Reject(row, PoisonRecord(str(error)), "task")
        case _:
            return Reject(row, PoisonRecord(f"{type(error).__name__}: {error}"), "task")
