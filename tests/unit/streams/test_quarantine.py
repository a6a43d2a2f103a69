"""The child that runs suspects: what it dies of is a record's, that it does not start is not; and a process whose thread hangs ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from schemas.errors import BrokerUnavailable, RetryLater
from streams.clock import ManualClock, SystemClock
from streams.loop.batching import CostLine
from streams.loop.outcome import Emit, Outcome, Reject
from streams.loop.quarantine import Quarantine
from streams.loop.step import BatchStep
from streams.process.watchdog import STALL_LIMIT_S, Watchdog
from streams.rows import OutRecords, Rows
from tests.support.echo import Echo, EchoGroup, Function
from tests.support.rows import rows_of


def row_of(value: bytes) -> Rows:
    rows = rows_of([(("t", 0), 7)])
    rows.values = [value]
    return rows


def process(rows: Rows) -> list[Outcome]:
    match rows.values[0]:
        case b"lethal":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"stops":
            raise BrokerUnavailable("the registry does not answer")
    return [Emit(rows, [OutRecords(str(os.getpid()), [None], [None], [[]])])]


def step() -> BatchStep:
    return BatchStep(Function(process), SystemClock(), CostLine())


def fails_until(there: Path) -> BatchStep:
    if not there.exists():
        raise MemoryError("a second model does not fit")
    return step()


def test_a_child_that_does_not_start_blames_nobody_and_is_started_again(tmp_path: Path) -> None:
    there = tmp_path / "memory"
    quarantine = Quarantine(partial(fails_until, there))
    with pytest.raises(RetryLater, match="exit code 1"):
        quarantine.run(row_of(b"v"))
    there.touch()
    (outcome,) = quarantine.run(row_of(b"v"))
    assert isinstance(outcome, Emit)
    (outcome,) = quarantine.run(row_of(b"lethal"))
    assert isinstance(outcome, Reject) and "signal 11" in str(outcome.error)
    with pytest.raises(RetryLater, match="registry"):
        quarantine.run(row_of(b"stops"))
    quarantine.close()


def test_the_watchdog_sees_a_call_that_hangs_on_the_steps_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[float] = []
    monkeypatch.setattr("faulthandler.dump_traceback_later", lambda left_s, exit: armed.append(left_s))
    clock = ManualClock()
    loop = EchoGroup().loop(Echo())
    since_s: float | None = None
    loop.step.working_since_s = lambda: since_s  # type: ignore[method-assign]
    follower = Watchdog(clock).of(loop)
    follower.tick()
    clock.sleep(100)
    follower.tick()
    assert armed == [STALL_LIMIT_S, STALL_LIMIT_S]
    since_s = clock.monotonic_s()
    clock.sleep(100)
    follower.tick()
    assert armed[-1] == STALL_LIMIT_S - 100


HANGS = """
import sys, time
from streams.process import shell
from streams.clock import SystemClock
from tests.support.echo import Echo, EchoGroup

shell.EXIT_LIMIT_S = 1.0

def hang(rows):
    print("hangs", flush=True)
    time.sleep(1e6)

def made():
    world, echo = EchoGroup(partitions=1), Echo()
    world.clock = world.broker.clock = SystemClock()
    loop = world.loop(echo, drain_limit_s=0.5)
    loop.step.hand_off_ms = -1.0
    echo.on_batch = hang
    world.send(b"v")
    return [loop]

sys.exit(shell.serve(made))
"""


def test_a_process_whose_step_hangs_ends_when_it_is_told_to() -> None:
    child = subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    try:
        assert b"hangs\n" in iter(child.stdout.readline, b"")
        time.sleep(0.2)
        child.send_signal(signal.SIGTERM)
        child.wait(90)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
