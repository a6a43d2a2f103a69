"""`./millrace demo --drift`: shows a retraining, from the change of the traffic to the new live version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra import console
from infra.demo.drift_story import SETTINGS, Event, Story, StoryFailed, Teller, learn, stages, tell
from infra.demo.drift_traffic import Digits, Texts, Traffic
from infra.demo.shoppers import Shoppers
from infra.local import loop_processes, run_state, stack
from infra.settings import ROOT, StackSettings
from schemas.errors import BadSettings
from schemas.topics import ATTRIBUTION, DRIFT_EVENTS, MODEL_UPDATES, SWAP_ACKS, TRAINING_EVENTS, TRAINING_REQUESTS
from schemas.vocabulary import RunEvent

RATES_PER_S = {Texts.model: 60, Digits.model: 40, Shoppers.model: 20}
COMMAND_LIMIT_S = 120.0
PRINTED = set(RunEvent) - {RunEvent.ASKED, RunEvent.PASSED_OVER}  # the first is printed as its request
COLOURS: dict[str, str] = {
    RunEvent.REFUSED: "red",
    RunEvent.FAILED: "red",
    RunEvent.ROLLED_BACK: "red",
    RunEvent.PROMOTED: "green",
    RunEvent.TRAINED: "green",
}


def traffic_of(model: str, data: Path) -> Traffic:
    """Raises BadSettings if there is no story for that model."""
    match model:
        case Texts.model:
            return Texts()
        case Digits.model:
            return Digits(data)
        case Shoppers.model:
            return Shoppers()
    raise BadSettings(f"no story of {model}; there are {', '.join(RATES_PER_S)}")


def run(settings: StackSettings, model: str, keep: bool) -> None:
    """Runs in a folder of its own, so that training uses no other data; the folder is removed afterwards unless `keep`."""
    traffic = traffic_of(model, Path(settings.data))
    rate_per_s, task, acts = RATES_PER_S[model], traffic.taken.group, not traffic.labelled
    stack.fetch(settings, with_features=acts)
    home = settings.home_folder.resolve() / "drift-demo"
    stack.down(replace(settings, home=str(home)))  # an earlier `--keep` may have left it running
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for name in ("jars", "flink-env", "env", "uv"):  # the last two for commands that are typed with this folder
        if (ours := settings.home_folder.resolve() / name).exists():
            (home / name).symlink_to(ours)
    if settings.monitor:
        (settings.home_folder / "monitor").mkdir(parents=True, exist_ok=True)
        (home / "monitor").symlink_to((settings.home_folder / "monitor").resolve())  # its pages are built only once
    processes = f"{task} {ATTRIBUTION.group}" if acts else task
    own = replace(settings, home=str(home), processes=processes, bootstrap=None, registry=None, mlflow=None)
    os.environ.update({**SETTINGS, **traffic.settings})
    console.out.print(
        f"[bold]Millrace demo of drift[/]: {rate_per_s} requests per second to {task}, for some minutes; drift detection and retraining run by themselves"
    )
    console.out.print(f"{traffic.about}\n")
    try:
        running = stack.up(own, with_features=acts, with_training=True)
        teller = Teller(running.bootstrap, running.registry, traffic, rate_per_s, Shown().event, _tick(traffic.good))
        console.out.print("\n  when      what\n")
        try:
            if traffic.labelled:
                tell(teller, lambda words: command(own, running, words))
            else:
                learn(teller)
        except StoryFailed:
            keep = True
            summary(teller.story, traffic.good)
            raise
        finally:
            teller.close()
        _end(teller, rate_per_s)
    finally:
        if keep:
            console.out.print(
                f"\n  still running: MILLRACE_HOME={home} ./millrace status; training list; models history {model}; down"
            )
        else:
            with console.step("stop"):
                stack.down(own)
            shutil.rmtree(home, ignore_errors=True)


def _end(teller: Teller, rate_per_s: float) -> None:
    """Raises StoryFailed if requests were lost or answered twice."""
    story = teller.story
    summary(story, teller.traffic.good)
    if story.twice or story.answered < story.sent - 3 * rate_per_s:
        raise StoryFailed(
            f"{story.sent} requests were sent, {story.answered} were answered, {story.twice} of them twice: see the table above"
        )
    before, now = story.learnt
    good = teller.traffic.good
    console.out.print(
        f"\n  After the change {before:.1%} of the old version's answers were {good}, and {now:.1%} of the new version's."
    )


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


def _tick(good: str) -> Callable[[Story, float], None]:
    def tick(story: Story, right: float) -> None:
        bar = "█" * round(right * 30)
        console.out.print(f"  [dim]{story.sent:>6} sent  {good} {right:6.1%}  {bar}[/]")

    return tick


def summary(story: Story, good: str) -> None:
    console.out.print()
    console.table(
        f"{good} answers",
        ("traffic", "version", good, "requests"),
        [(traffic, version, f"{right / n:.1%}", str(n)) for (traffic, version), (right, n) in story.rights.items()],
        right=(good, "requests"),
    )
    console.out.print()
    console.table(
        "duration of each stage",
        ("from", "to", "seconds", "requests"),
        [(first, then, f"{seconds:.1f}", str(texts)) for first, then, seconds, texts in stages(story)],
        right=("seconds", "requests"),
    )
