"""`./millrace demo --drift`: shows a retraining, from the change of the traffic to the new live version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra import console
from infra.demo.drift_story import SETTINGS, Event, Story, StoryFailed, Teller, stages, tell
from infra.demo.drift_traffic import traffic_of
from infra.local import loop_processes, run_state, stack
from infra.settings import ROOT, StackSettings
from schemas.topics import DRIFT_EVENTS, MODEL_UPDATES, SWAP_ACKS, TRAINING_EVENTS, TRAINING_REQUESTS
from schemas.vocabulary import RunEvent

RATES_PER_S = {"moderation-text": 60, "vision-digits": 40}
COMMAND_LIMIT_S = 120.0
PRINTED = set(RunEvent) - {RunEvent.ASKED, RunEvent.PASSED_OVER}  # the first is printed as its request
COLOURS: dict[str, str] = {
    RunEvent.REFUSED: "red",
    RunEvent.FAILED: "red",
    RunEvent.ROLLED_BACK: "red",
    RunEvent.PROMOTED: "green",
    RunEvent.TRAINED: "green",
}


def run(settings: StackSettings, model: str, keep: bool) -> None:
    """Runs in a folder of its own, so that training uses no other data; the folder is removed afterwards unless `keep`."""
    traffic = traffic_of(model, Path(settings.data))
    rate_per_s, task = RATES_PER_S[model], traffic.taken.group
    stack.fetch(settings)
    home = settings.home_folder.resolve() / "drift-demo"
    stack.down(replace(settings, home=str(home)))  # an earlier `--keep` may have left it running
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / "jars").symlink_to(settings.jars.resolve())
    if settings.monitor:
        (settings.home_folder / "monitor").mkdir(parents=True, exist_ok=True)
        (home / "monitor").symlink_to((settings.home_folder / "monitor").resolve())  # its pages are built only once
    own = replace(settings, home=str(home), processes=task, bootstrap=None, registry=None, mlflow=None)
    os.environ.update(SETTINGS)
    console.out.print(
        f"[bold]Millrace demo of drift[/]: {rate_per_s} requests per second to {task}, for some minutes; drift detection and retraining run by themselves\n"
    )
    try:
        running = stack.up(own, with_training=True)
        teller = Teller(running.bootstrap, running.registry, traffic, rate_per_s, Shown().event, _tick)
        console.out.print("\n  when      what\n")
        try:
            story = tell(teller, lambda words: command(own, running, words))
        except StoryFailed:
            keep = True
            raise
        finally:
            teller.close()
        summary(story)
        if story.twice or story.answered < story.sent - 3 * rate_per_s:
            raise StoryFailed(
                f"{story.sent} requests were sent, {story.answered} were answered, {story.twice} of them twice: see the table above"
            )
    finally:
        if keep:
            console.out.print(
                f"\n  still running: MILLRACE_HOME={home} ./millrace status; training list; models history {model}; down"
            )
        else:
            with console.step("stop"):
                stack.down(own)
            shutil.rmtree(home, ignore_errors=True)


def command(settings: StackSettings, running: run_state.State, words: Sequence[str]) -> None:
    console.out.print(f"\n  [bold]$ training_triggers {' '.join(words[:2])}[/] …")
    subprocess.run(
        [sys.executable, "-m", "training_triggers", *words],
        cwd=ROOT,
        env={**os.environ, **loop_processes.process_environment(settings, running)},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=COMMAND_LIMIT_S,
    )


class Shown:
    """Prints one line per event, and only the first drift finding of each version."""

    def __init__(self) -> None:
        self._drifted: set[str] = set()

    def event(self, event: Event) -> None:
        kind, words = _words(event)
        if kind == "drift":
            if event.record["version"] in self._drifted:
                return
            self._drifted.add(event.record["version"])
        if kind:
            colour = COLOURS.get(kind, "cyan")
            console.out.print(f"  {event.at_s:6.1f} s  [{colour}]{kind:<12}[/] {console.escape(words)}")


def _words(event: Event) -> tuple[str, str]:
    record: dict[str, Any] = event.record
    match event.topic:
        case DRIFT_EVENTS.name:
            return "drift", (
                f"{record['trigger']} of {record['signal']}: mean {record['baseline_mean']:.3g} became {record['window_mean']:.3g} "
                f"(effect {record['effect']:.2f}, at least {record['least_effect']} counts as drift)"
            )
        case TRAINING_REQUESTS.name:
            return "asked", f"{record['run_key']} by {record['actor']}: {record['reason']}"
        case TRAINING_EVENTS.name if record["kind"] in PRINTED:
            return record["kind"], record["words"]
        case MODEL_UPDATES.name:
            canary = "".join(f", {one['arm']} {one['version']} for {one['share']:.0%}" for one in record["challengers"])
            return "update", f"{record['model']}: {record['version']} is live{canary}; {record['actor']}: {record['reason']}"
        case SWAP_ACKS.name:
            offsets = ", ".join(f"{one['topic']}/{one['partition']} from {one['offset']}" for one in record["first_offsets"])
            said = offsets if record["accepted"] else record["reason"]
            return "swap", f"{record['worker']} answers with {record['version']} ({record['arm']}): {said}"
    return "", ""


def _tick(story: Story, right: float) -> None:
    bar = "█" * round(right * 30)
    console.out.print(f"  [dim]{story.sent:>6} sent  right {right:6.1%}  {bar}[/]")


def summary(story: Story) -> None:
    console.out.print()
    console.table(
        "right answers",
        ("traffic", "version", "right", "requests"),
        [(traffic, version, f"{right / n:.1%}", str(n)) for (traffic, version), (right, n) in story.rights.items()],
        right=("right", "requests"),
    )
    console.out.print()
    console.table(
        "duration of each stage",
        ("from", "to", "seconds", "requests"),
        [(first, then, f"{seconds:.1f}", str(texts)) for first, then, seconds, texts in stages(story)],
        right=("seconds", "requests"),
    )
