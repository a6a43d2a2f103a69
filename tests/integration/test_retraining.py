"""The loop that retrains, on real servers: the traffic changes, and with everything killed on the way it ends as it would have without."""

from __future__ import annotations

import contextlib
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from inference_workers.models.folder import SHIPPED, open_folder
from infra.demo.drift_story import SETTINGS, Event, Teller, tell
from infra.demo.drift_traffic import Texts
from infra.local import run_state
from schemas.topics import MODEL_UPDATES, SWAP_ACKS, TRAINING_EVENTS, TRAINING_REQUESTS
from tests.support.stack import Stack

pytestmark = pytest.mark.real
LIVE = open_folder(SHIPPED / Texts.model).version
TRIGGERS = "drift+accuracy+decide+launch+rollout-0"
RATE_PER_S = 50
# Requests come one at a time here. A transaction for each of them would be half of the story's processor time.
BATCHED = {"MILLRACE_MAX_WAIT_MS": "400"}
NO_MLFLOW = "http://127.0.0.1:9"  # nothing answers there: the loop closes all the same
# At each of these events the named process dies with -9: the loops five times in different stages, a run in mid-training, a worker in its swap.
KILLS = {
    "asked": "loops",
    "launched": "run",
    "trained": "run",
    "judged": "loops",
    "canary": "loops",
    "swap canary": "worker",
    "promoted": "loops",
}


class Killer:
    def __init__(self, stack: Stack) -> None:
        self._stack, self.done = stack, list[str]()

    def event(self, event: Event) -> None:
        kind = {
            TRAINING_EVENTS.name: event.record.get("kind", ""),
            SWAP_ACKS.name: f"swap {event.record.get('arm')}",
        }.get(event.topic, "")
        if kind in KILLS and kind not in self.done:
            self.done.append(kind)
            match KILLS[kind]:
                case "loops":
                    self._stack.kill(TRIGGERS)
                case "worker":
                    self._stack.kill("moderation-0")
                case "run":
                    self._kill_run()

    def _kill_run(self) -> None:
        kept = run_state.read(self._stack.home / "run").find(TRIGGERS)
        assert kept is not None
        for child in psutil.Process(kept.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "run" in child.cmdline():
                    child.send_signal(signal.SIGKILL)


def test_the_traffic_changes_and_the_loop_closes_whatever_is_killed(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "moderation", **SETTINGS, **BATCHED, MILLRACE_SESSION_TIMEOUT_MS="6000", MILLRACE_MLFLOW=NO_MLFLOW)
    try:
        up = stack.run("up", "--with", "training")
        assert up.returncode == 0, up.stdout + up.stderr
        stack.connect()
        killer = Killer(stack)
        teller = Teller(
            stack.address.bootstrap,
            run_state.read(tmp_path / "run").registry,
            Texts(),
            RATE_PER_S,
            killer.event,
            lambda story, right: None,
        )

        try:
            story = tell(teller, stack.training)
            teller.traffic.changed = False
            waiting = story.sent
            teller.until(lambda: story.answered >= waiting, "answers of all that was sent")
        except Exception:
            print(stack.run("logs", TRIGGERS).stdout[-6000:])
            print(stack.run("training", "list").stdout)
            raise
        finally:
            teller.close()
        assert sorted(killer.done) == sorted(KILLS), "each was there to be killed"
        assert story.twice == 0

        events = stack.records(TRAINING_EVENTS.name)
        kinds = Counter((one["run_key"], one["kind"]) for one in events if one["kind"] not in ("progress", "passed_over"))
        assert max(kinds.values()) == 1, kinds
        learnt, control = (one["run_key"] for one in stack.records(TRAINING_REQUESTS.name))
        assert {kind for key, kind in kinds if key == learnt} == {"asked", "launched", "trained", "judged", "canary", "promoted"}
        assert {kind for key, kind in kinds if key == control} >= {"launched", "trained", "refused"}

        assert sum(one["words"].startswith("not registered in MLflow") for one in events) == 2
        (version,) = (one["facts"]["version"] for one in events if (one["run_key"], one["kind"]) == (learnt, "promoted"))
        (bad,) = (one["facts"]["version"] for one in events if (one["run_key"], one["kind"]) == (control, "refused"))
        updates = stack.records(MODEL_UPDATES.name)
        assert [(one["version"], [c["version"] for c in one["challengers"]]) for one in updates] == [
            (LIVE, [version]),
            (version, [LIVE]),
            (bad, []),
            (bad, [version]),
            (version, []),
        ]
        right = {key: good / n for key, (good, n) in story.rights.items()}
        assert right["as before", LIVE] > 0.97
        assert right["changed", LIVE] < 0.8
        assert right["changed", version] > 0.97, right

        history = stack.run("models", "history", Texts.model, "--json").stdout.splitlines()
        assert [json.loads(line)["version"] for line in history if json.loads(line)["topic"] == MODEL_UPDATES.name] == [
            LIVE,
            version,
            bad,
            bad,
            version,
        ]
        over_time = json.loads(stack.run("models", "accuracy", Texts.model, "--json").stdout)
        told = {v for one, n in zip(over_time["versions"], over_time["n"], strict=True) if n for v in one.split(", ")}
        assert {LIVE, version} <= told
        labelled, right_ = sum(over_time["n"]), sum(over_time["right"])
        known = [sum(column) for column in zip(*story.rights.values(), strict=True)]
        assert labelled >= 0.9 * known[1]  # a label of the last second may not be there yet
        assert right_ / labelled == pytest.approx(known[0] / known[1], abs=0.05)
        shown = stack.run("training", "show", learnt).stdout
        for word in ("asked", "launched", "trains on", "trained", "judged", "canary", "promoted"):
            assert word in shown, shown
        report = (tmp_path / "runs" / learnt / "report.html").read_text()
        assert "May take over" in report
        folders: dict[str, Any] = {folder.name: folder for folder in (tmp_path / "runs").iterdir()}
        assert set(folders) == {learnt, control}
    finally:
        stack.run("down")
