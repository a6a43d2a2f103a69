"""Finds the record that kills its process, without its own file or store.

A member that is assigned a partition commits the same offset again with the note `claim=n+1`. A commit with progress and a clean
revocation write no note. A partition that is assigned with `claim=2` or more was assigned twice without progress: its next
look-ahead of records runs one by one in a child process, and a record that kills the child goes to the dead-letter topic.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from schemas.errors import PoisonRecord, RetryLater, Stop
from streams.headers import whole
from streams.loop.outcome import Outcome, Reject
from streams.loop.step import Step
from streams.rows import Rows

SUSPICIOUS = 2
_PREFIX = "claim="


def claims_in(note: str) -> int:
    """The number of claims in a note; 0 for a note of another kind."""
    return (whole(note.removeprefix(_PREFIX).encode(errors="replace"), 0, 99_999) or 0) if note.startswith(_PREFIX) else 0


def claim_note(claims: int) -> str:
    return f"{_PREFIX}{claims}"


def _serve(pipe: Connection, make_step: Callable[[], Step]) -> None:
    step = make_step()
    pipe.send("ready")
    while True:
        rows = pipe.recv()
        if rows is None:
            step.close()
            return
        try:
            step.submit(rows)
            outcomes: list[Outcome] = []
            while sum(len(outcome.rows) for outcome in outcomes) < len(rows):
                outcomes.extend(step.completed(1.0))
        except Stop as stop:
            pipe.send(RetryLater(f"{stop.code}: {stop}"))  # a Stop ends the process in order and is not caused by the record
            return
        pipe.send(outcomes)


class Quarantine:
    """A child process that runs records one by one. `make_step` must be picklable, because the child imports it again."""

    def __init__(self, make_step: Callable[[], Step], limit_s: float = 30.0, start_limit_s: float = 120.0) -> None:
        self._make_step = make_step
        self._limit_s = limit_s
        self._start_limit_s = start_limit_s
        self._child: BaseProcess | None = None
        self._pipe: Connection | None = None

    def run(self, row: Rows) -> list[Outcome]:
        """Outcomes of one record. Waits at most `limit_s`, plus the start of the child if none runs yet. Raises RetryLater if the
        child does not start, which is not the record's fault."""
        pipe = self._started()
        try:
            pipe.send(row)
        except OSError as error:
            self.close()
            raise RetryLater(f"the child process ended before it had the record: {error}") from error
        try:
            answer = self._receive(pipe, self._limit_s)
        except (EOFError, OSError, TimeoutError) as error:
            return [Reject(row, PoisonRecord(f"alone in a process of its own, {self._ended(error)}"), "quarantine")]
        if isinstance(answer, RetryLater):
            self.close()
            raise answer
        assert isinstance(answer, list)
        return answer

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.pid is not None:
            child.kill()
            child.join(5)

    def _started(self) -> Connection:
        if self._child is not None and self._pipe is not None and self._child.is_alive():
            return self._pipe
        self.close()
        context = multiprocessing.get_context("spawn")
        try:
            self._pipe, theirs = context.Pipe()
            self._child = context.Process(target=_serve, args=(theirs, self._make_step), daemon=True)
            self._child.start()
            theirs.close()
            self._receive(self._pipe, self._start_limit_s)
        except (EOFError, OSError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                cause = f"it was not ready after {self._start_limit_s:.0f} s"
            elif self._child is None or self._child.pid is None:
                cause = str(error)
            else:
                cause = self._ended(error)
            self.close()
            raise RetryLater(f"no child process for records that may be lethal: {cause}") from error
        return self._pipe

    @staticmethod
    def _receive(pipe: Connection, limit_s: float) -> Any:
        if not pipe.poll(limit_s):
            raise TimeoutError
        return pipe.recv()

    def _ended(self, error: Exception) -> str:
        child = self._child
        assert child is not None
        if isinstance(error, TimeoutError):
            self.close()
            return f"it was not done after {self._limit_s:.0f} s"
        child.join(5)
        code = child.exitcode
        self._child = None
        if code is not None and code < 0:
            return f"it was killed by signal {-code}"
        return f"it ended with exit code {code}"
