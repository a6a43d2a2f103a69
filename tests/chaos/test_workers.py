"""Real workers on real Kafka, killed, frozen and starved; then the ledger. The short form of `./millrace chaos`."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.kafka.config import GroupProtocol
from tests.chaos.scale import scale
from tests.chaos.stage import Stage, staged
from tests.conftest import Servers
from tests.support.waiting import until

pytestmark = pytest.mark.real


@pytest.fixture
def stage(servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    with staged(servers.bootstrap, servers.registry, tmp_path) as made:
        yield made


@pytest.mark.parametrize("point", ["polled:3", "computed:3", "produced:3", "committed:1"])
def test_kill_9_at_each_step_of_the_loop(stage: Stage, point: str) -> None:
    doomed = stage.worker(MILLRACE_KILL_AT=point)
    doomed.wait_assigned()
    stage.text(*[f"text number {i}" for i in range(150)])
    assert doomed.wait_dead() == -signal.SIGKILL
    stage.worker().wait_assigned()
    stage.text(*[f"later text {i}" for i in range(50)])
    stage.wait_answered()
    assert stage.problems() == []


def test_what_an_earlier_stage_left_is_no_part_of_the_next(servers: Servers, tmp_path: Path) -> None:
    with staged(servers.bootstrap, servers.registry, tmp_path) as earlier:
        earlier.text(*[f"nobody answers {i}" for i in range(20)])
    with staged(servers.bootstrap, servers.registry, tmp_path) as stage:
        stage.worker().wait_assigned()
        stage.text(*[f"text number {i}" for i in range(20)])
        stage.wait_answered()
        assert stage.problems() == []


def test_kill_9_between_flush_and_commit_repeats_but_loses_nothing_at_least_once(stage: Stage) -> None:
    doomed = stage.worker(MILLRACE_DELIVERY="at-least-once", MILLRACE_KILL_AT="flushed:1")
    doomed.wait_assigned()
    stage.text(*[f"text number {i}" for i in range(100)])
    assert doomed.wait_dead() == -signal.SIGKILL
    stage.worker(MILLRACE_DELIVERY="at-least-once").wait_assigned()
    stage.wait_answered()
    assert stage.problems(may_repeat=True) == []
    assert any(problem.startswith("doubled") for problem in stage.problems())


def test_a_worker_frozen_past_its_session_answers_nothing_twice(stage: Stage) -> None:
    frozen, other = stage.worker(0), stage.worker(1)
    frozen.wait_assigned()
    other.wait_assigned()
    stage.text(*[f"text number {i}" for i in range(100)])
    frozen.signal(signal.SIGSTOP)
    stage.text(*[f"while frozen {i}" for i in range(200)])
    time.sleep(6)
    frozen.signal(signal.SIGCONT)
    stage.text(*[f"after {i}" for i in range(100)])
    stage.wait_answered()
    assert stage.problems() == []


def test_three_workers_come_and_go(stage: Stage) -> None:
    workers = [stage.worker(slot) for slot in range(2)]
    for worker in workers:
        worker.wait_assigned()
    stage.text(*[f"text number {i}" for i in range(300)])
    third = stage.worker(2)
    stage.text(*[f"more {i}" for i in range(300)])
    third.wait_assigned()
    workers[0].signal(signal.SIGKILL)
    stage.text(*[f"still more {i}" for i in range(300)])
    assert workers[1].stop() == 0
    stage.wait_answered()
    assert stage.problems() == []


@pytest.mark.parametrize("kill", [False, True])
def test_a_broker_restart_loses_and_doubles_nothing(servers: Servers, stage: Stage, kill: bool) -> None:
    stage.worker().wait_assigned()
    stage.text(*[f"text number {i}" for i in range(200)])
    if not kill:  # a broker that is stopped while a transaction ends may lose its marker (docs/guarantees.md)
        stage.wait_answered(90)
    servers.restart_kafka(kill=kill)
    stage.text(*[f"after the restart {i}" for i in range(200)])
    stage.wait_answered(90)
    assert stage.problems() == []


def test_a_record_that_kills_the_process_is_found_and_set_aside(stage: Stage) -> None:
    """The word makes the task kill its process, as a fault in a native library would."""
    stage.worker().stop()  # the group's offsets are written, so that the following record is the first unread one
    stage.text(*[f"before {i}" for i in range(20)], "this is a lethal text", *[f"after {i}" for i in range(20)])
    deaths = 0
    for _ in range(6):
        worker = stage.worker(MILLRACE_KILL_ON="lethal text")
        until(lambda worker=worker: stage.answered() or worker.process.poll() is not None, 60, worker.log_tail)  # type: ignore[misc]
        if stage.answered():
            break
        assert worker.wait_dead() == -signal.SIGKILL, worker.log_tail()
        deaths += 1
    assert 2 <= deaths <= 3
    assert stage.problems() == []
    (letter,) = stage.letters()
    assert letter["error-step"] == "quarantine"
    assert "signal 9" in letter["error-message"]


@pytest.mark.parametrize("protocol", GroupProtocol)
def test_workers_that_join_and_leave_a_backlog_leave_none_of_it(stage: Stage, protocol: GroupProtocol) -> None:
    """The short form of `./millrace chaos --scale`."""
    scale(stage, protocol, backlog=8_000, seconds=12, seed=2)
    assert stage.problems() == []


def test_a_clean_stop_leaves_nothing_behind_for_the_next(stage: Stage) -> None:
    worker = stage.worker()
    worker.wait_assigned()
    stage.text(*[f"text number {i}" for i in range(500)])
    assert worker.stop() == 0
    stage.worker().wait_assigned()
    stage.wait_answered()
    assert stage.problems() == []
