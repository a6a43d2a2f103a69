"""`./millrace bench drift`: false alarms where nothing changes, and how soon shifts of stated size are found. Simulated entries through
the watch that the detectors run; no broker."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from schemas.signals import ALL, CATEGORY, EMBEDDING, SAID
from tests.benchmarks.worker import figure, report, say
from training_triggers.detect import ANSWERS, SIGNALS
from training_triggers.triggers import chi_square, ks, mmd
from training_triggers.triggers.trigger import Trigger
from training_triggers.watch import Matrix, Rules, Watch

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


def watch(names: Sequence[str], triggers: Sequence[Trigger], rules: Rules) -> Watch:
    return Watch(tuple(names), triggers, rules)


def false_alarms(windows: int, seed: int, triggers: Sequence[Trigger], rules: Rules) -> dict[str, int]:
    """Alarms by trigger over so many windows of eight signals and a class that do not change, a new baseline every 50."""
    random, found = np.random.default_rng(seed), {trigger.name: 0 for trigger in triggers}
    draws = [*STILL.values(), *STILL.values(), _classes((0.6, 0.2, 0.1, 0.1))]
    for _ in range(windows // 50):
        one = watch([*(f"s{i}" for i in range(8)), SAID], triggers, rules)
        for _ in range(51):
            entries = np.stack([draw(random, rules.window_n) for draw in draws], axis=1).astype(np.float32)
            for alarm in one.add(entries, 0):
                found[alarm.trigger.name] += 1
    return found


def delays(
    before: Draw,
    after: Draw,
    triggers: Sequence[Trigger],
    rules: Rules,
    rounds: int,
    most: int,
    names: Sequence[str] = ("s", "t"),
) -> dict[str, list[float]]:
    """names: the first changes, a second is normal and does not. For each trigger, entries from the onset, which lies anywhere in a window, to the alarm; infinite where none came."""
    random, found = np.random.default_rng(7), {trigger.name: list[float]() for trigger in triggers}
    for _ in range(rounds):
        one, quiet = watch(names, triggers, rules), int(random.integers(0, rules.window_n))
        one.add(_columns(before, random, 2 * rules.window_n + quiet, len(names)), 0)
        at = {trigger.name: float("inf") for trigger in triggers}
        for came in range(100, most + 1, 100):
            for alarm in one.add(_columns(after, random, 100, len(names)), 0):
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
    windows_a_day = DEMO_PER_S * 86_400 / rules.window_n
    quick = [trigger for trigger in SIGNALS if trigger.of not in (ALL, EMBEDDING)]
    for triggers, windows in ((quick, chosen.windows), ([mmd.TRIGGER], chosen.windows // 20)):
        for name, n in false_alarms(windows, 1, triggers, rules).items():
            a_day = float(stats.chi2.ppf(0.95, 2 * n + 2) / 2) / windows * windows_a_day  # of a Poisson count
            say(f"  {name}: {n} alarms in {windows} windows; at {DEMO_PER_S} entries/s at most {a_day:.1f} a day (95 %)")
            figures.append(
                figure(f"false alarms of {name}, at most a day", a_day, "a day", "printed", None, alarms=n, windows=windows)
            )

    say("a normal signal changes, at any place in a window")
    for name, after in SHIFTS.items():
        found = delays(STILL["normal"], after, [one for one in SIGNALS if one.of != CATEGORY], rules, chosen.rounds, 6_000)
        told(name, found, 3_000)
        for trigger, entries in found.items():
            figures.append(figure(
                f"{trigger}: {name}, found within 3000", float(np.mean(np.array(entries) <= 3_000)), "share", "printed", None,
                median_records=float(np.median(entries)) if np.isfinite(np.median(entries)) else None,
            ))  # fmt: skip
    say("the classes that are told change: of 60, 20, 10 and 10 %, so many points move from the first to the last")
    for points in (0.05, 0.1, 0.15, 0.2):
        after = _classes((0.6 - points, 0.2, 0.1, 0.1 + points))
        found = delays(_classes((0.6, 0.2, 0.1, 0.1)), after, [chi_square.TRIGGER], rules, chosen.rounds, 6_000, (SAID,))
        told(f"{points:.0%} of the answers", found, 3_000)
        figures.append(figure(
            f"chi_square: {points:.0%} of the answers, found within 3000", float(np.mean(np.array(found["chi_square"]) <= 3_000)), "share",
            "printed", None,
        ))  # fmt: skip
    soon = np.array(delays(STILL["normal"], SHIFTS["mean + 1 deviation"], [ks.TRIGGER], rules, chosen.rounds, 4_000)["ks"])
    within = float(np.mean(soon <= GOAL_RECORDS))
    figures.append(figure("ks: mean + 1 deviation, found within 2000", within, "share", "1", within == 1.0))

    answers = Rules(window_n=200)
    say(f"accuracy falls from 0.95, windows of {answers.window_n} labelled answers")
    for share in (0.92, 0.90, 0.85, 0.80, 0.70):
        found = delays(_right(0.95), _right(share), ANSWERS, answers, chosen.rounds, 2_000, ("right",))
        told(f"0.95 to {share}", found, 1_000)
        figures += [
            figure(
                f"{name}: 0.95 to {share}, found within 1000 answers",
                float(np.mean(np.array(entries) <= 1_000)),
                "share",
                "printed",
                None,
            )
            for name, entries in found.items()
        ]
    still = delays(_right(0.95), _right(0.95), ANSWERS, answers, chosen.rounds, 4_000, ("right",))
    for name, entries in still.items():
        wrong = int(np.isfinite(entries).sum())
        say(f"  no change            {name:<12} {wrong} of {chosen.rounds} times an alarm within 4000 answers")
        figures.append(figure(f"{name}: false alarms within 4000 answers", wrong / chosen.rounds, "share", "printed", None))
    report("drift", figures, load_before, chosen.json)


def _columns(first: Draw, random: np.random.Generator, n: int, width: int) -> Matrix:
    return np.stack([first(random, n), *(random.normal(size=n) for _ in range(width - 1))], axis=1).astype(np.float32)


def _classes(shares: Sequence[float]) -> Draw:
    return lambda random, n: random.choice(len(shares), n, p=shares).astype(float)


def _right(share: float) -> Draw:
    return lambda random, n: (random.random(n) < share).astype(float)


if __name__ == "__main__":
    main()
