"""All checks and both lanes of tests: each test runs once, a failure of any part is seen, and an interrupt ends all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from infra.cli import suite
from infra.settings import ROOT
from tests.support import lanes

LANE = [sys.executable, "-m", "infra.run_module", "tests.support.lanes"]
# Tests that write who ran them.
MODULE = """
import os, time, pathlib, pytest
@pytest.mark.parametrize("n", range(3))
def test_one(n):
    time.sleep(0.02)
    name = pathlib.Path(__file__).name
    with open(os.environ["LINES"], "a") as out:
        out.write(f"{os.environ['LANE']} {name} {n}\\n")
    assert os.environ.get("FAILS") != f"{name} {n}"
"""
STORIES = (
    "integration/test_retraining.py",
    "integration/test_recipes.py",
    "integration/flink/test_a.py",
    "integration/flink/test_b.py",
)
OTHERS = ("chaos/test_workers.py", *(f"unit/test_{name}.py" for name in "cdefgh"))
# Stands for a lane with servers: what it started is stopped when it is interrupted, and not before.
SERVER = """
import pathlib, subprocess, sys, time
server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(str(server.pid))
try:
    time.sleep(120)
finally:
    time.sleep(0.5); server.kill(); server.wait()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in (*STORIES, *OTHERS):
        file = tmp_path / "tests" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(MODULE)
        (file.parent / "__init__.py").touch()
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "taken").mkdir()
    return tmp_path


def start(name: str, project: Path, *more: str, **env: str) -> subprocess.Popen[bytes]:
    """A lane over the project. What it tells comes to the file `told`."""
    own = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "LANE": name, "LINES": str(project / "lines")}
    with (project / "told").open("ab") as out:
        return subprocess.Popen(
            [*LANE, name, str(project / "taken"), "--rootdir", str(project), *more, str(project / "tests")],
            cwd=project,
            env={**os.environ, **own, **env},
            stdout=subprocess.DEVNULL,
            stderr=out,
            stdin=subprocess.DEVNULL,
        )


def ran(project: Path) -> list[tuple[str, str, str]]:
    """(lane, file, number) of each test that ran, in their order."""
    lines = [line.split() for line in (project / "lines").read_text().splitlines()]
    return [(lane, file, n) for lane, file, n in lines]


def names(files: tuple[str, ...]) -> list[str]:
    return [Path(file).name for file in files]


def test_the_light_lane_leaves_the_stories_to_the_heavy_one(project: Path) -> None:
    assert start("light", project).wait(60) == 0
    assert list(dict.fromkeys(file for _, file, _ in ran(project))) == names(OTHERS)
    assert start("heavy", project).wait(60) == 0
    after = [file for lane, file, _ in ran(project) if lane == lanes.HEAVY]
    assert list(dict.fromkeys(after)) == ["test_recipes.py", "test_retraining.py", "test_a.py", "test_b.py"]
    told = (project / "told").read_text()
    assert told.count(" 3 passed ") == len(OTHERS) + len(STORIES) - 2  # one of six for the folder with two files
    assert "tests/integration/flink " in told and " 6 passed " in told


def test_each_test_runs_once_and_a_failure_is_told_and_ends_its_lane_with_1(project: Path) -> None:
    running = [start(name, project, FAILS="test_recipes.py 1") for name in suite.LANES]
    assert [lane.wait(180) for lane in running] == [1, 0]
    assert Counter((file, n) for _, file, n in ran(project)) == Counter(
        (file, str(n)) for file in names((*STORIES, *OTHERS)) for n in range(3)
    )
    told = (project / "told").read_text()
    assert "FAILED tests/integration/test_recipes.py::test_one[1]\n" in told
    assert "1 failed, 2 passed" in told


def test_a_lane_that_may_not_fail_often_ends_with_the_test_that_failed(project: Path) -> None:
    lane = start("heavy", project, "--maxfail=1", FAILS="test_recipes.py 1")
    assert lane.wait(180) == 1
    assert [(file, n) for _, file, n in ran(project)] == [("test_recipes.py", "0"), ("test_recipes.py", "1")]


def test_a_lane_ends_although_a_test_left_a_thread_and_says_where_that_stands(project: Path) -> None:
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), name='left').start()\n"
    (project / "tests" / "unit" / "test_c.py").write_text(thread + MODULE)
    assert start("light", project, LANE_LEAVE_LIMIT_S="1").wait(180) == 1
    assert "Timeout" in (told := (project / "told").read_text()) and "threading.py" in told


def test_what_has_a_place_in_the_order_is_there() -> None:
    assert [path for path in lanes.ORDER if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("codes", "code"), [((0, 0, 0), 0), ((1, 0, 0), 1), ((0, 2, 0), 2), ((0, 0, 3), 3)])
def test_any_part_that_fails_fails_the_whole(
    codes: tuple[int, ...], code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    commands = {
        name: [sys.executable, "-c", f"print('what {name} says'); print('{name}: {one}'); raise SystemExit({one})"]
        for name, one in zip(("checks", *suite.LANES), codes, strict=True)
    }
    assert suite.beside(commands, tmp_path, os.environ) == code
    said = capfd.readouterr().out
    for name, one in zip(commands, codes, strict=True):
        assert f"what {name} says" in said
        assert f"{'✗' if one else '✓'} {name:<8}{name}: {one}" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_every_part_with_its_servers(number: int, tmp_path: Path) -> None:
    words = f"""
import os, pathlib, sys
from infra.cli import suite
commands = {{name: [sys.executable, "-c", {SERVER!r}, {str(tmp_path)!r} + "/" + name] for name in suite.LANES}}
sys.exit(suite.beside(commands, pathlib.Path({str(tmp_path)!r}), os.environ))
"""
    pids = [tmp_path / name for name in suite.LANES]
    with subprocess.Popen([sys.executable, "-c", words], cwd=ROOT, stdout=subprocess.PIPE) as command:
        end_s = time.monotonic() + 30
        while not all(file.exists() and file.read_text() for file in pids) and time.monotonic() < end_s:
            time.sleep(0.05)
        servers = [psutil.Process(int(file.read_text())) for file in pids]
        of_it = psutil.Process(command.pid).children()
        command.send_signal(number)
        time.sleep(0.2)
        command.send_signal(number)  # of somebody who does not wait: it does not interrupt the cleaning up
        assert command.wait(90) == 130
    assert [process for process in (*servers, *of_it) if process.is_running()] == []
