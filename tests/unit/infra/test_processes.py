"""Processes of the stack: known by their start, found when their keeper is killed, kept without end; their state under a lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.cli import doctor, process_table
from infra.local import kafka, kept, processes, run_state, stack, started
from infra.local.keeper import Keeper
from infra.local.kept import Kept, ending, pause_s
from infra.local.started import Started
from infra.monitor.watching import servers
from infra.settings import ROOT, StackSettings
from schemas.topics import CATALOGUE
from tests.support.waiting import until

SLEEP = "import time; time.sleep(120)"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[StackSettings]:
    settings = StackSettings(home=str(tmp_path), monitor=False)
    others = set(processes._children)  # servers of the session, which go on
    yield settings
    for pid in started.of_folder(settings.run_folder):
        os.kill(pid, signal.SIGKILL)
    for child in processes._children.keys() - others:
        processes._reap(child)


def keep(settings: StackSettings, name: str, code: str) -> Started:
    """A process under a keeper, as `up` starts it, written down."""
    command = [sys.executable, "-m", "infra.local.keeper", name, sys.executable, "-c", code]
    found = processes.start(name, command, settings.run_folder / "logs" / f"{name}.log", {"PYTHONPATH": str(ROOT)})
    running = run_state.read(settings.run_folder)
    running.put(found)
    run_state.write(settings.run_folder, running)
    return found


def child_of(keeper: Started) -> psutil.Process:
    until(lambda: bool(psutil.Process(keeper.pid).children()))
    return psutil.Process(keeper.pid).children()[0]


# --- identity -----------------------------------------------------------------------------------------------------


def fake_proc(folder: Path, boot: str, stat: str, btime: int = 1_000) -> Path:
    (folder / "sys" / "kernel" / "random").mkdir(parents=True, exist_ok=True)
    (folder / "7").mkdir(exist_ok=True)
    (folder / "sys" / "kernel" / "random" / "boot_id").write_text(boot + "\n")
    (folder / "7" / "stat").write_text(stat)
    (folder / "stat").write_text(f"cpu 1 2 3\nbtime {btime}\n")
    return folder


def stat_of(ticks: int, state_: str = "S", name: str = "java") -> str:
    return f"7 ({name}) {state_} 1 7 7 0 -1 4194304 {' '.join(['0'] * 12)} {ticks} 3133440 382\n"


def test_a_process_is_known_by_boot_and_tick_whatever_becomes_of_the_clock(tmp_path: Path) -> None:
    before = started.birth(7, fake_proc(tmp_path, "boot-a", stat_of(4_711)))
    assert before == "boot-a/4711"
    assert started.birth(7, fake_proc(tmp_path, "boot-a", stat_of(4_711), btime=1_002)) == before, "the clock went on by 2 s"
    assert started.birth(7, fake_proc(tmp_path, "boot-a", stat_of(4_712))) != before, "another process has the pid"
    assert started.birth(7, fake_proc(tmp_path, "boot-b", stat_of(4_711))) != before, "another boot"
    assert started.birth(7, fake_proc(tmp_path, "boot-a", stat_of(4_711, "Z"))) is None, "a zombie does not run"
    assert started.birth(8, tmp_path) is None


def test_a_name_with_brackets_and_blanks_is_no_field(tmp_path: Path) -> None:
    assert started.birth(7, fake_proc(tmp_path, "boot", stat_of(12, name="a) S 1 (b"))) == "boot/12"


def test_a_start_written_by_the_clock_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    me = psutil.Process()
    held = {"name": "kafka", "pid": me.pid, "born": me.create_time(), "log": "x", "address": "a:1"}
    (tmp_path / "state.json").write_text(json.dumps({"bootstrap": "b", "registry": "r", "processes": [held]}))
    (found,) = run_state.read(tmp_path).processes
    assert found.alive()
    held["born"] = me.create_time() - 60
    (tmp_path / "state.json").write_text(json.dumps({"bootstrap": "b", "registry": "r", "processes": [held]}))
    assert not run_state.read(tmp_path).processes[0].alive()


def test_without_proc_ps_tells_processes_apart(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    assert started.birth(os.getpid(), missing) == started.birth(os.getpid(), missing) != started.birth(1, missing)
    assert started.birth(2**22 - 1, missing) is None


# --- what a killed keeper leaves ------------------------------------------------------------------------------------


def test_the_child_of_a_killed_keeper_is_seen_and_stopped(home: StackSettings, capsys: pytest.CaptureFixture[str]) -> None:
    keeper = keep(home, "moderation-0", SLEEP)
    child = child_of(keeper)
    os.kill(keeper.pid, signal.SIGKILL)
    until(lambda: not keeper.alive())

    process_table.status(home, True)
    (row,) = json.loads(capsys.readouterr().out)["processes"]
    assert (row["state"], str(child.pid) in row["trouble"]) == ("unkept", True)
    assert "unkept" in str(doctor._servers(home)) or not run_state.read(home.run_folder).bootstrap

    assert stack.down(home) == ["moderation-0"]
    assert started.birth(child.pid) is None


def test_up_stops_what_nobody_keeps_and_nothing_else(home: StackSettings) -> None:
    lost, kept_ = keep(home, "moderation-0", SLEEP), keep(home, "policy-0", SLEEP)
    unwritten = processes.start("vision-0", [sys.executable, "-c", SLEEP], home.run_folder / "logs" / "vision-0.log")
    inner = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'], start_new_session=True); time.sleep(99)"
    deep = keep(home, "launch-0", inner)
    orphan, good = child_of(lost), child_of(kept_)
    until(lambda: len(psutil.Process(deep.pid).children(recursive=True)) == 2)
    os.kill(lost.pid, signal.SIGKILL)
    until(lambda: not lost.alive())
    assert stack._stop_strays(home, run_state.read(home.run_folder)) == ["moderation-0", "vision-0"]
    assert started.birth(orphan.pid) is None
    assert not processes.is_running(unwritten)
    processes.stop(lost)  # reaps it
    assert kept_.alive() and good.is_running() and len(psutil.Process(deep.pid).children(recursive=True)) == 2
    assert sorted(stack.down(home)) == ["launch-0", "policy-0"]
    assert started.of_folder(home.run_folder) == {}


def test_down_stops_all_that_runs_where_its_state_cannot_be_read(home: StackSettings) -> None:
    keeper = keep(home, "moderation-0", SLEEP)
    child = child_of(keeper)
    (home.run_folder / "state.json").write_text("{broken")
    with pytest.raises(run_state.StateUnreadable, match=r"state\.json"):
        stack.down(home)
    assert started.birth(keeper.pid) is None
    assert started.birth(child.pid) is None


# --- state and lock -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "7",
        '"x"',
        "{}",
        '{"processes": 7}',
        '{"processes": [{}]}',
        '{"processes": [{"name": 1, "pid": "x", "born": "b", "log": "l"}]}',
        "\udcff",
    ],
)
def test_a_state_that_cannot_be_read_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content, errors="surrogateescape")
    with pytest.raises(run_state.StateUnreadable, match="millrace down"):
        run_state.read(tmp_path)


def holder(run: Path) -> subprocess.Popen[str]:
    """Another process that takes the lock, says so, and holds it until its input ends."""
    code = "import pathlib, sys; from infra.local import run_state\nwith run_state.locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(run)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_one_at_a_time_changes_the_state(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        with holder(tmp_path) as second:
            assert second.stdout is not None and second.stderr is not None
            assert "waiting" in second.stderr.readline()
            first.kill()
            assert second.stdout.readline() == "held\n", "a holder that dies frees it"
            second.kill()


def test_a_lock_in_a_folder_that_was_removed_is_no_lock(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with run_state.locked(run):
        waiting = holder(run)
        assert waiting.stdout is not None and waiting.stderr is not None
        assert "waiting" in waiting.stderr.readline()
        (run / "lock").unlink()
        run.rmdir()
    with waiting:
        assert waiting.stdout.readline() == "held\n"
        assert (run / "lock").exists(), "it holds the new one"
        waiting.kill()


# --- the keeper -----------------------------------------------------------------------------------------------------


class Life:
    """A clock, and runs of the kept process: how long each lasts and how it ends."""

    def __init__(self, keeper: Keeper, runs: list[tuple[float, int]]) -> None:
        self.now_s, self.pauses, self.recorded, self._keeper, self._runs = 1_000.0, list[float](), list[Kept](), keeper, runs

    def run_once(self) -> int:
        if not self._runs:
            self._keeper.stopping = True
            return 0
        lasted_s, code = self._runs.pop(0)
        self.now_s += lasted_s
        return code

    def wait(self, wait_s: float) -> None:
        self.pauses.append(wait_s)
        self.now_s += wait_s


def lived(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runs: list[tuple[float, int]]) -> Life:
    keeper = Keeper("worker-0", ["true"], tmp_path / "run" / "logs" / "worker-0.log")
    life = Life(keeper, runs)
    monkeypatch.setattr(keeper, "_run_once", life.run_once)
    monkeypatch.setattr(keeper, "_wait", life.wait)
    monkeypatch.setattr(keeper, "_record", life.recorded.append)
    monkeypatch.setattr("infra.local.keeper.time.monotonic", lambda: life.now_s)
    monkeypatch.setattr("infra.local.keeper._now_ms", lambda: int(life.now_s * 1000))
    keeper.run()
    return life


def test_a_keeper_never_gives_up_and_its_pauses_have_a_ceiling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    life = lived(monkeypatch, tmp_path, [(0.5, 1)] * 500)
    assert len(life.pauses) == 500
    assert life.pauses[:3] == [1.0, 1.5, 2.25]
    assert max(life.pauses) == life.pauses[-1] == 60.0


def test_killed_every_second_and_a_half_for_45_s_it_is_soon_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keeper_s, deaths = 0.0, 0
    while keeper_s < 45.0:  # it is killed at the next beat of the one who kills
        deaths += 1
        keeper_s = 1.5 * (keeper_s // 1.5 + 1) + pause_s(deaths, False)
    assert keeper_s < 45.0 + 20.0


def test_a_good_run_ends_a_row_of_deaths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    life = lived(monkeypatch, tmp_path, [(0.5, 1)] * 10 + [(kept.GOOD_RUN_S + 1, -9), (0.5, 1)])
    assert life.pauses[-2:] == [1.0, 1.5]


@pytest.mark.parametrize("code", [0, 1, 2, 3, 139, -9, -15, -64])
def test_however_it_ends_it_is_started_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int) -> None:
    life = lived(monkeypatch, tmp_path, [(0.5, code)] * 8)
    assert len(life.pauses) == 8
    assert (life.pauses[0] >= 15.0) == (code == 3), "a fenced one leaves the place to the other for longer"
    assert life.recorded[-2].cause == ending(code)


def test_a_crash_loop_is_told_with_its_cause_and_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    life = lived(monkeypatch, tmp_path, [(0.5, -9)] * 4)
    loop = life.recorded[-3]
    trouble = loop.trouble(loop.next_try_ms - 2_000 if loop.next_try_ms else 0)
    assert trouble == "ended 4 times in a row, next try in 2 s; last with signal 9 (SIGKILL)"
    assert life.recorded[1].trouble(0) == "", "one death is none"
    again = life.recorded[-1]
    assert again == Kept(4), "a keeper that is stopped has nothing wrong"
    running = Kept(4, 4, "exit code 1", "boom", since_ms=0)
    assert running.trouble(1_000).endswith("exit code 1: boom")
    assert running.trouble(int(kept.GOOD_RUN_S * 1000)) == ""


def test_status_doctor_and_monitor_say_crash_loop(home: StackSettings, capsys: pytest.CaptureFixture[str]) -> None:
    keeper = keep(home, "moderation-0", SLEEP)
    dying = Kept(7, 7, "exit code 1", "[/red] no such \x1b]0;owned\x07 model", next_try_ms=2**62)
    until(lambda: kept.file_of(Path(keeper.log)).exists())
    child_of(keeper)
    kept.write(Path(keeper.log), dying)
    process_table.status(home, True)
    (row,) = json.loads(capsys.readouterr().out)["processes"]
    assert row["state"] == "crash loop"
    assert "7 times in a row" in row["trouble"] and "no such" in row["trouble"]
    process_table.status(home, False)
    shown = capsys.readouterr().out
    assert "crash loop" in shown and "[/red] no such" in shown and "\x1b" not in shown
    (told,) = servers.started(home.run_folder)
    assert "7 times in a row" in servers.troubles([told])["moderation-0"]
    running = run_state.read(home.run_folder)
    running.bootstrap, running.registry = "127.0.0.1:9", "http://127.0.0.1:9"
    run_state.write(home.run_folder, running)
    _, good, words, mend = next(row for row in doctor._servers(home) if row[0] == "moderation-0")
    assert not good and "crash loop" in words and "logs moderation-0" in mend


def test_a_real_keeper_starts_again_tells_why_and_stops_at_once_while_it_waits(home: StackSettings) -> None:
    keeper = keep(home, "doomed-0", "print('no such model'); raise SystemExit(4)")
    log = Path(keeper.log)
    until(lambda: kept.read(log).in_a_row >= 3)
    found = kept.read(log)
    assert (found.cause, found.said, found.loops(0)) == ("exit code 4", "no such model", True)
    begun = time.monotonic()
    processes.stop(keeper)
    assert time.monotonic() - begun < 5, "a signal ends its pause"
    assert kept.read(log).trouble(0) == ""


def test_a_full_disk_does_not_end_a_keeper(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), started.LOG: str(tmp_path / "run" / "logs" / "x.log")}
    (tmp_path / "run").write_text("a file where a folder is wanted")
    with open("/dev/full", "w") as full:
        keeper = subprocess.Popen([sys.executable, "-m", "infra.local.keeper", "x", "false"], env=env, stdout=full, stderr=full)
    time.sleep(2.5)
    assert keeper.poll() is None
    keeper.terminate()
    assert keeper.wait(60) == 0


@pytest.mark.parametrize(
    "content", ["", "[]", "7", '{"deaths": "x"}', '{"in_a_row": "9"}', '{"in_a_row": 9, "next_try_ms": "x"}', '{"odd": 1}']
)
def test_what_a_keeper_did_not_write_is_nothing_wrong(tmp_path: Path, content: str) -> None:
    log = tmp_path / "logs" / "x.log"
    kept.write(log, Kept())
    kept.file_of(log).write_text(content)
    assert kept.read(log).trouble(0) == ""


def test_a_group_that_rests_finds_its_place_as_long_as_its_records_are_kept() -> None:
    day = 24 * 60
    assert kafka.offsets_retention_minutes([7 * day * 60_000, 90 * day * 60_000]) == 91 * day
    assert kafka.offsets_retention_minutes([topic.retention_ms for topic in CATALOGUE]) == 2**31 - 1
    assert "\noffsets.retention.minutes=2147483647\n" in kafka._properties(1, 2, Path("/x"))
