"""The folder that is ours: marked, and removed only where it is marked, while nothing of it runs, and with a yes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import clean
from infra.local import home, processes, run_state, stack
from infra.local.started import Started
from infra.settings import ROOT, StackSettings

SLEEPER = [sys.executable, "-c", "import time; time.sleep(120)"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A marked home with something in it."""
    made = tmp_path / "home"
    home.mark(made)
    for name in ("run", "blobs", "env"):
        (made / name).mkdir()
        (made / name / "file").write_text("x")
    monkeypatch.setenv("MILLRACE_HOME", str(made))
    return made


@pytest.fixture
def runs(folder: Path) -> Iterator[Started]:
    started = processes.start("worker-0", SLEEPER, folder / "run" / "logs" / "worker-0.log")
    yield started
    processes.stop(started, 0.0)


def test_a_marked_home_is_removed_with_a_yes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean.main(["--yes"]) == 0
    assert not folder.exists()
    assert "blobs" in capsys.readouterr().out


def test_without_a_terminal_and_without_yes_nothing_is_removed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        assert clean.main([]) == 1
    assert (folder / "blobs" / "file").exists()
    assert "--yes" in capsys.readouterr().err


def test_a_question_is_answered_with_no(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda words: "n")
    assert clean.main([]) == 1
    assert (folder / "blobs" / "file").exists()


def test_what_others_put_beside_ours_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "thesis.tex").write_text("years of work")
    assert clean.main(["--yes"]) == 0
    assert [entry.name for entry in folder.iterdir()] == ["thesis.tex"]
    assert "thesis.tex" in capsys.readouterr().out


def test_what_was_there_before_us_stays_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "of-somebody").write_text("x")
    home.mark(tmp_path)
    (tmp_path / "blobs").mkdir()
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    assert clean.main(["--yes"]) == 0
    assert (tmp_path / "runs" / "of-somebody").exists()
    assert not (tmp_path / "blobs").exists()


def test_a_link_is_removed_and_not_what_it_names(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "jar").write_text("x")
    (folder / "jars").symlink_to(tmp_path / "shared")
    assert clean.main(["--yes"]) == 0
    assert not folder.exists()
    assert (tmp_path / "shared" / "jar").exists()


def test_a_folder_without_our_mark_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
    assert clean.main(["--yes"]) == 1
    assert [entry.name for entry in tmp_path.rglob("*")] == ["run"], "not even a lock is written there"
    assert "not-ours" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", '{"before": 7}', "\0"])
def test_a_mark_that_cannot_be_read_is_no_leave(folder: Path, content: str) -> None:
    (folder / home.MARKER).write_text(content)
    assert clean.main(["--yes"]) == 1
    assert (folder / "blobs" / "file").exists()


@pytest.mark.parametrize("unfit", ["/", "~", "~/..", str(ROOT), str(ROOT.parent)])
def test_roots_and_homes_are_never_ours(unfit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    named = Path(unfit).expanduser()
    with pytest.raises(home.NotOurs, match="MILLRACE_HOME"):
        home.mark(named)
    monkeypatch.setenv("MILLRACE_HOME", str(named))
    assert clean.main(["--yes"]) == 1


def test_nothing_is_removed_under_what_runs(folder: Path, runs: Started, capsys: pytest.CaptureFixture[str]) -> None:
    run_state.write(folder / "run", run_state.State(processes=[runs]))
    assert clean.main(["--yes"]) == 1
    assert (folder / "blobs" / "file").exists()
    said = capsys.readouterr().err
    assert f"worker-0 (pid {runs.pid})" in said
    assert "./millrace down" in said


@pytest.mark.parametrize("content", [None, "{broken", "[]", '{"processes": [7]}'])
def test_what_runs_is_seen_without_its_state_file_too(folder: Path, runs: Started, content: str | None) -> None:
    if content is not None:
        (folder / "run" / "state.json").write_text(content)
    assert clean.main(["--yes"]) == 1
    assert (folder / "blobs" / "file").exists()


def test_what_runs_in_a_home_inside_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mark(folder / "drift-demo")
    started = processes.start("worker-0", SLEEPER, folder / "drift-demo" / "run" / "logs" / "worker-0.log")
    try:
        assert clean.main(["--yes"]) == 1
    finally:
        processes.stop(started, 0.0)
    assert clean.main(["--yes"]) == 0


def test_a_home_of_an_earlier_version_is_known_by_its_environment(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / ".stamp").write_text("1")
    (tmp_path / "run").mkdir()
    home.mark(tmp_path)
    assert json.loads((tmp_path / home.MARKER).read_text())["before"] == []


def test_down_of_a_home_that_is_not_there_makes_none(tmp_path: Path) -> None:
    assert stack.down(StackSettings(home=str(tmp_path / "none"))) == []
    assert not (tmp_path / "none").exists()


def test_the_door_cleans_without_an_environment_and_makes_none(folder: Path, tmp_path: Path) -> None:
    """With a changed lock, or none of the environment left, as `git pull` leaves it."""
    door = tmp_path / "project"
    door.mkdir()
    shutil.copy(ROOT / "millrace", door)
    for name in ("infra", "schemas", "streams"):
        (door / name).symlink_to(ROOT / name)
    (door / "uv.lock").write_text("another lock")
    env = {**os.environ, "MILLRACE_HOME": str(folder)}
    refused = subprocess.run(
        [door / "millrace", "clean"], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (refused.returncode, (folder / "blobs" / "file").exists()) == (1, True)
    done = subprocess.run([door / "millrace", "clean", "--yes"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not folder.exists()
