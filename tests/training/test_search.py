"""Ray Tune with ASHA over the text model's one setting, really run: 20 samples on this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from inference_workers.models.folder import SHIPPED, open_folder
from infra.settings import ROOT
from schemas.errors import BadSettings
from tests.unit.training_triggers.test_runs import examples
from training_triggers.trainers import settings_search
from training_triggers.trainers.moderating import moderation_text_retrain
from training_triggers.trainers.retrain import Job

SAMPLES = 20


def job(folder: Path, **options: str) -> Job:
    return Job(folder / "model", folder / "scratch", "2", folder, "a test", options=options)


def test_twenty_samples_are_tried_most_are_stopped_early_and_the_best_makes_the_version(tmp_path: Path) -> None:
    said: list[str] = []
    made = moderation_text_retrain.retrain(
        open_folder(SHIPPED / "moderation-text"), examples(200), job(tmp_path, search_samples=str(SAMPLES)), said.append
    ).made
    trials = [line for line in said if line.startswith("trial ")]
    assert len(trials) == SAMPLES
    steps = [int(found.group(1)) for line in trials if (found := re.search(r"after (\d+) of", line))]
    assert min(steps) < settings_search.STEPS <= max(steps)
    losses = [float(found.group(1)) for line in trials if (found := re.search(r"loss ([\d.]+) after", line))]
    (best,) = [line for line in said if line.startswith("best of")]
    assert float(best.rpartition(" ")[2]) == pytest.approx(min(losses), abs=1e-5)
    assert open_folder(tmp_path / "model", made.digest).version == "2"


ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
SCRIPT = """
import sys
from pathlib import Path
from tests.training.test_search import job
from training_triggers.trainers import settings_search as search
import itertools, time

def trial(settings):
    for step in itertools.count(1):
        time.sleep(0.1)
        yield abs(settings["x"] - 3.0) + 1.0 / step

found = search.best(job(Path(sys.argv[1]), search_samples="8"), {"x": search.Range(0.0, 10.0)}, trial, lambda line: print(line, flush=True))
print("found", found["x"], flush=True)
"""


def killed_after_two_trials(folder: Path) -> list[str]:
    """The command of a search that was killed while Tune did not write."""
    command, log = [sys.executable, "-c", SCRIPT, str(folder)], folder / "log"
    with log.open("wb") as out:
        child = subprocess.Popen(command, env=ENV, stdout=out, stderr=subprocess.DEVNULL, start_new_session=True)
    until_s = time.monotonic() + 360
    while "trial 2 of" not in log.read_text() and child.poll() is None and time.monotonic() < until_s:
        time.sleep(0.1)
    assert "trial 2 of" in log.read_text()
    seen_s = time.time()  # Tune writes down each second where it stood: what it knows now must be in that
    while len(written_since(folder, seen_s)) < 2 and time.monotonic() < until_s:
        time.sleep(0.05)
    time.sleep(0.2)
    assert child.poll() is None
    os.killpg(child.pid, signal.SIGKILL)
    child.wait(30)
    return command


def written_since(folder: Path, seen_s: float) -> list[Path]:
    """Tune's files of trials and of its plan."""
    files = [*folder.rglob("experiment_state-*.json"), *folder.rglob("basic-variant-state-*.json")]
    return [file for file in files if file.stat().st_mtime > seen_s and file.stat().st_size]


def resumed(command: list[str]) -> list[str]:
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines[0] == "an interrupted search is resumed"
    assert abs(float(lines[-1].split()[1]) - 3.0) < 3.0
    return lines


@dataclass(frozen=True)
class Killed:
    """A search that was killed, as often as a test wants it: paths are part of what Tune wrote down."""

    command: list[str]
    folder: Path
    kept: Path

    def again(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept, self.folder)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("search") / "killed"
    folder.mkdir()
    command = killed_after_two_trials(folder)
    return Killed(command, folder, shutil.copytree(folder, folder.with_name("kept")))


def test_a_search_that_was_killed_goes_on_where_it_stood(killed: Killed) -> None:
    killed.again()
    lines = resumed(killed.command)
    assert sum(line.startswith("trial ") for line in lines) < 8
    assert lines[-2].startswith("best of 8 trials")


def test_a_search_that_was_killed_while_it_wrote_its_plan_makes_up_for_what_is_missing(killed: Killed) -> None:
    killed.again()
    for plan in killed.folder.rglob("basic-variant-state-*.json"):
        plan.write_bytes(b"")
    lines = resumed(killed.command)
    assert any("trials are missing and follow" in line for line in lines)
    found, _, _ = lines[-2].removeprefix("best of ").partition(" trials")
    assert int(found) >= 8


@pytest.mark.parametrize("text", ["", "1", "2:1", "0:1:log", "a:b", "1:2:3", "1:2:log:x"])
def test_a_space_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="low:high"):
        settings_search.Range.parse("x", text)
