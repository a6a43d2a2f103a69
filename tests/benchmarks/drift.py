"""`./millrace bench drift`: false alarms where nothing changes, and how soon shifts of stated size are found. Simulated entries through
the watch that the detectors run; no broker."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.worker import figure, report, say
from training_triggers.detect import ANSWERS, SIGNALS
from training_triggers.triggers.trigger import Trigger
from training_triggers.watch import Rules, Watch

Draw = Callable[[np.random.Generator, int], np.ndarray]
DEMO_PER_S = 200  # entries a second at the demo's traffic
GOAL_RECORDS = 2_000

STILL: dict[str, Draw] = {
    "normal": lambda random, n: random.normal(size=n),
    "lengths": lambda random, n: np.round(random.lognormal(4.0, 0.8, n)),
    "probabilities": lambda random, n: random.beta(0.3, 3.0, n),
    "flags": lambda random, n: (random.random(n) < 0.1).astype(float),
}
# What becomes of a standard normal signal, by name.
SHIFTS: dict[str, Draw] = {
    "mean + 0.2 deviations": lambda random, n: random.normal(0.2, 1.0, n),
    "mean + 0.3 deviations": lambda random, n: random.normal(0.3, 1.0, n),
    "mean + 0.5 deviations": lambda random, n: random.normal(0.5, 1.0, n),
    "mean + 1 deviation": lambda random, n: random.normal(1.0, 1.0, n),
    "deviation x 1.5": lambda random, n: random.normal(0.0, 1.5, n),
    "a tenth elsewhere (+ 5)": lambda random, n: random.normal(0.0, 1.0, n) + 5.0 * (random.random(n) < 0.1),
    "a fifth missing": lambda random, n: np.where(random.random(n) < 0.2, np.nan, random.normal(size=n)),
}


def watch(signals: int, triggers: Sequence[Trigger], rules: Rules) -> Watch:
    return Watch(tuple(f"s{i}" for i in range(signals)), triggers, rules)


def false_alarms(windows: int, seed: int, rules: Rules) -> dict[str, int]:
    """Alarms by trigger over so many windows of eight signals that do not change, a new baseline every 50."""
    random, found = np.random.default_rng(seed), dict.fromkeys(("ks", "psi"), 0)
    draws = [*STILL.values(), *STILL.values()]
    for _ in range(windows // 50):
        one = watch(len(draws), SIGNALS, rules)
        for _ in range(51):
            entries = np.stack([draw(random, rules.window_n) for draw in draws], axis=1).astype(np.float32)
            for alarm in one.add(entries, 0):
                found[alarm.trigger.name] += 1
    return found


def delays(
    before: Draw, after: Draw, triggers: Sequence[Trigger], rules: Rules, rounds: int, most: int
) -> dict[str, list[float]]:
    """For each trigger, entries from the onset, which lies anywhere in a window, to the alarm; infinite where none came."""
    random, found = np.random.default_rng(7), {trigger.name: list[float]() for trigger in triggers}
    for _ in range(rounds):
        one, quiet = watch(1, triggers, rules), int(random.integers(0, rules.window_n))
        one.add(before(random, 2 * rules.window_n + quiet)[:, None].astype(np.float32), 0)
        at = {trigger.name: float("inf") for trigger in triggers}
        for came in range(100, most + 1, 100):
            for alarm in one.add(after(random, 100)[:, None].astype(np.float32), 0):
                at[alarm.trigger.name] = min(at[alarm.trigger.name], came)
        for name, entries in at.items():
            found[name].append(entries)
    return found


def told(title: str, found: dict[str, list[float]], within: int) -> None:
    for name, entries in found.items():
        middle = np.median(entries)
        share = np.mean(np.array(entries) <= within)
        said = f"{middle:.0f}" if np.isfinite(middle) else "none"
        say(f"  {title:<28} {name:<9} found within {within}: {share:>4.0%}   median records {said}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--windows", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=100)
    chosen = parser.parse_args()
    load_before, rules, figures = os.getloadavg()[0], Rules(), list[dict[str, Any]]()

    say(f"no change: {chosen.windows} windows of {rules.window_n} entries, 8 signals, alarms after {rules.in_a_row} in a row")
    alarms = false_alarms(chosen.windows, 1, rules)
    windows_a_day = DEMO_PER_S * 86_400 / rules.window_n
    for name, n in alarms.items():
        # With none seen, the rate is below 3 over the windows with 95 % confidence (rule of three).
        a_day = max(n, 3) / chosen.windows * windows_a_day
        say(f"  {name}: {n} alarms; at {DEMO_PER_S} entries/s at most {a_day:.1f} a day (95 %)")
        figures.append(
            figure(f"false alarms of {name}, at most a day", a_day, "a day", "printed", None, alarms=n, windows=chosen.windows)
        )

    say("a normal signal changes, at any place in a window")
    for name, after in SHIFTS.items():
        found = delays(STILL["normal"], after, SIGNALS, rules, chosen.rounds, 6_000)
        told(name, found, 3_000)
        for trigger, entries in found.items():
            figures.append(figure(
                f"{trigger}: {name}, found within 3000", float(np.mean(np.array(entries) <= 3_000)), "share", "printed", None,
                median_records=float(np.median(entries)) if np.isfinite(np.median(entries)) else None,
            ))  # fmt: skip
    soon = np.array(delays(STILL["normal"], SHIFTS["mean + 1 deviation"], SIGNALS, rules, chosen.rounds, 4_000)["ks"])
    within = float(np.mean(soon <= GOAL_RECORDS))
    figures.append(figure("ks: mean + 1 deviation, found within 2000", within, "share", "1", within == 1.0))

    answers = Rules(window_n=200)
    say(f"accuracy falls from 0.95, windows of {answers.window_n} labelled answers")
    for share in (0.92, 0.90, 0.85, 0.80, 0.70):
        found = delays(_right(0.95), _right(share), ANSWERS, answers, chosen.rounds, 2_000)
        told(f"0.95 to {share}", found, 1_000)
        figures.append(figure(
            f"accuracy: 0.95 to {share}, found within 1000 answers", float(np.mean(np.array(found["accuracy"]) <= 1_000)), "share", "printed", None
        ))  # fmt: skip
    report("drift", figures, load_before, chosen.json)


def _right(share: float) -> Draw:
    return lambda random, n: (random.random(n) < share).astype(float)


if __name__ == "__main__":
    main()
