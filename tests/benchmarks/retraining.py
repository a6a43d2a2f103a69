"""`./millrace bench retraining`: the time from a change of the traffic to the version that has learnt it, and serving during a
training."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from infra.demo.drift_story import SETTINGS, Story, Teller, stages, tell
from infra.demo.drift_traffic import Texts
from infra.local import run_state
from schemas.topics import TRAINING_EVENTS
from streams.process.arguments import whole
from tests.benchmarks.worker import QUIET_LOAD, figure, report, say
from tests.support.stack import Stack

STORY_PER_S, SERVING_PER_S = 60, 200
STEADY_S = 20.0
GOAL_RECORDS, GOAL_S, GOAL_TIMES = 2_000, 600.0, 2.0


def started(folder: Path) -> Stack:
    folder.mkdir()
    stack = Stack(folder, "moderation", **SETTINGS)
    up = stack.run("up", "--with", "training")
    assert up.returncode == 0, up.stdout + up.stderr
    stack.connect()
    return stack


def teller_of(stack: Stack, per_s: float) -> Teller:
    running = run_state.read(stack.home / "run")
    return Teller(running.bootstrap, running.registry, Texts(), per_s, lambda event: None, lambda story, right: None)


def story_of(folder: Path) -> tuple[Story, dict[str, tuple[float, int]]]:
    """The story, and seconds and texts from the change to each of its stages."""
    stack = started(folder)
    try:
        teller = teller_of(stack, STORY_PER_S)
        try:
            story = tell(teller, stack.training)
        finally:
            teller.close()
    finally:
        stack.run("down")
    found, seconds, texts = dict[str, tuple[float, int]](), 0.0, 0
    for _, to, took_s, n in stages(story)[:-1]:
        seconds, texts = seconds + took_s, texts + n
        found[to] = seconds, texts
    return story, found


def serving(folder: Path, rounds: int) -> list[tuple[float, float, float, float]]:
    """For each round: p99 in ms without and with a training run, the run's duration in seconds, and the share of texts
    answered during the run."""
    stack, found = started(folder), list[tuple[float, float, float, float]]()
    try:
        teller = teller_of(stack, SERVING_PER_S)
        story = teller.story
        try:
            end_s = teller.now_s + STEADY_S
            teller.until(lambda: teller.now_s > end_s, "warming up")
            for number in range(rounds):
                from_s = teller.now_s
                teller.until(lambda from_s=from_s: teller.now_s > from_s + STEADY_S, "steady traffic")  # type: ignore[misc]
                stack.training(["request", Texts.model, "--reason", f"round {number}", "--option", "control=shuffled"])
                teller.step()
                story.events.clear()
                begun_s, sent, answered = teller.now_s, story.sent, story.answered
                teller.until(
                    lambda: any(story.find(TRAINING_EVENTS.name, kind=kind) for kind in ("refused", "failed", "judged")),
                    "end of the run",
                )
                assert story.find(TRAINING_EVENTS.name, kind="refused"), [event.record for event in story.events[-3:]]
                ended_s = teller.now_s
                steady, beside = (
                    [ms for at_s, ms in story.latencies_ms if low <= at_s < high]
                    for low, high in ((from_s, from_s + STEADY_S), (begun_s, ended_s))
                )
                share = (story.answered - answered) / max(1, story.sent - sent)
                found.append((float(np.percentile(steady, 99)), float(np.percentile(beside, 99)), ended_s - begun_s, share))
                say(
                    f"  round {number + 1}: p99 {found[-1][0]:.1f} ms steady, {found[-1][1]:.1f} ms beside a run of {ended_s - begun_s:.0f} s, "
                    f"{share:.3f} of the texts answered in its time"
                )
        finally:
            teller.close()
    finally:
        stack.run("down")
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=whole(), default=3)
    chosen = parser.parse_args()
    load_before, figures = os.getloadavg()[0], list[dict[str, Any]]()
    folder = Path(tempfile.mkdtemp(prefix="millrace-retraining-"))
    try:
        say(
            f"{chosen.rounds} times: {STORY_PER_S} texts a second, 45 % of them of a new kind from some point on, everything else by itself"
        )
        told = [story_of(folder / f"story-{number}") for number in range(chosen.rounds)]
        figures += story_figures(told)
        say(f"{SERVING_PER_S} texts a second, {STEADY_S:.0f} s steady and then beside a training run, {chosen.rounds} times")
        figures += serving_figures(serving(folder / "serving", chosen.rounds), load_before < QUIET_LOAD)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report("retraining", figures, load_before, chosen.json)


def story_figures(told: list[tuple[Story, dict[str, tuple[float, int]]]]) -> list[dict[str, Any]]:
    figures = []
    found = [marks["drift was found"] for _, marks in told]
    live = [marks["it took over"][0] - marks["drift was found"][0] for _, marks in told]
    for name, values, unit, goal in (
        ("drift onset to detection", [float(n) for _, n in found], "records", GOAL_RECORDS),
        ("drift onset to detection, time", [s for s, _ in found], "s", None),
        ("detection to swapped", live, "s", GOAL_S),
    ):
        say(f"  {name}: {', '.join(f'{one:.0f}' for one in values)} {unit}")
        met = None if goal is None else max(values) <= goal
        figures.append(
            figure(
                name,
                float(np.median(values)),
                unit,
                "printed" if goal is None else f"at most {goal:.0f}",
                met,
                all=[round(one, 1) for one in values],
            )
        )
    for name, traffic, new in (
        ("before the change", "as before", False),
        ("after it, the old version", "changed", False),
        ("after it, the new version", "changed", True),
    ):
        shares = []
        for story, _ in told:
            version = next(v for (_, v), _ in list(story.rights.items())[2:]) if new else "1"
            right, n = story.rights[traffic, version]
            shares.append(right / n)
        say(f"  right {name}: {', '.join(f'{one:.3f}' for one in shares)}")
        figures.append(
            figure(
                f"answered right {name}", float(np.median(shares)), "share", "printed", None, all=[round(s, 4) for s in shares]
            )
        )
    twice, lost = sum(story.twice for story, _ in told), sum(story.sent - story.answered for story, _ in told)
    say(f"  answered twice: {twice}; on their way when it ended: {lost}")
    figures.append(figure("answered twice", twice, "texts", "0", twice == 0))
    return figures


def serving_figures(found: list[tuple[float, float, float, float]], quiet: bool) -> list[dict[str, Any]]:
    steady, beside, took_s, share = (float(np.median(column)) for column in zip(*found, strict=True))
    return [
        figure(
            "p99 beside a training run",
            beside,
            "ms",
            f"at most {GOAL_TIMES:.0f} times the steady one",
            beside <= GOAL_TIMES * steady if quiet else None,
            reference="p99 without one, the same stack and rate",
            reference_value=round(steady, 2),
            ratio=round(beside / steady, 3),
            all=[[round(x, 1) for x in row[:2]] for row in found],
        ),
        figure(
            "share of texts answered while it ran",
            share,
            "share",
            "1",
            min(row[3] for row in found) > 0.99,
            seconds=round(took_s, 1),
        ),
    ]


if __name__ == "__main__":
    main()
