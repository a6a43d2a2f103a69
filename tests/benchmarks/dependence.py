"""For `bench drift`: entries that are not independent, and accuracies that do not change. The unit of counting is a version
with its own baseline: a false alarm is an alarm of a version in which nothing changes. Bounds are by Clopper and Pearson
(1934), 95 %."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from schemas.durations import DAY_MS
from schemas.signals import ALL, EMBEDDING, RIGHT, SAID
from tests.benchmarks.worker import figure, say
from training_triggers.drift.detect import ANSWERS, SIGNALS
from training_triggers.drift.version_watch import VersionWatch, WatchRules
from training_triggers.triggers.trigger import Trigger

Traffic = Callable[[np.random.Generator, float, int], np.ndarray]  # fraction of a day, number of entries
NAMES = ("flag", "heavy", "normal", "other", SAID)
WINDOWS = 20
CHANGES = (1.0, 2.0)  # in standard deviations of the normal signal


def burst(length: int, rhythm: float = 0.0) -> Traffic:
    """Entries of one author are equal and come in runs of `length`; the mean rises and falls by `rhythm` standard deviations
    once a day."""

    def draw(random: np.random.Generator, day: float, n: int) -> np.ndarray:
        authors = n // length + 2
        shift = rhythm * np.sin(2 * np.pi * day)
        drawn = np.stack(
            [
                random.random(authors) < 0.1,
                random.lognormal(4.0, 0.8, authors),
                random.normal(shift, 1, authors),
                random.normal(shift, 1, authors),
                random.choice(4, authors, p=(0.6, 0.2, 0.1, 0.1)),
            ],
            axis=1,
        )
        begin = int(random.integers(0, length))
        return np.repeat(drawn, length, axis=0)[begin : begin + n].astype(np.float32)

    return draw


TRAFFIC: dict[str, tuple[Traffic, int]] = {  # and windows per day; 0: the baseline is the first window
    "independent": (burst(1), 0),
    "bursts of 10": (burst(10), 0),
    "bursts of 30": (burst(30), 0),
    "daily rhythm of 0.5": (burst(1, 0.5), 48),
    "rhythm and bursts of 10": (burst(10, 0.5), 48),
}


def version(
    random: np.random.Generator,
    traffic: Traffic,
    a_day: int,
    triggers: Sequence[Trigger],
    rules: WatchRules,
    windows: int,
    shift: float = 0.0,
) -> dict[str, float]:
    """By trigger: number of entries from the baseline's end to the first alarm, infinite if there was none. shift: of the
    normal signal after the baseline."""
    watch, day, at = VersionWatch(NAMES, triggers, rules), float(random.random()), {named(one): float("inf") for one in triggers}
    step, began = 1 / a_day if a_day else 1e-6, 0.0
    part = rules.window_n // 10
    while not watch.settled:
        watch.add(traffic(random, day, rules.window_n), int(1 + (began := began + step) * DAY_MS))
        day += step
    watch.streaks.clear()
    if shift:
        watch.add(traffic(random, day, part * int(random.integers(0, 10))), int(1 + began * DAY_MS))
    for seen in range(part, windows * rules.window_n + 1, part):
        entries = traffic(random, day, part)
        entries[:, NAMES.index("normal")] += shift
        day, began = day + step / 10, began + step / 10
        for alarm in watch.add(entries, int(1 + began * DAY_MS)):
            at[named(alarm.trigger)] = min(at[named(alarm.trigger)], seen)
    return at


def named(trigger: Any) -> str:
    return f"{trigger.name} of embeddings" if trigger.of == EMBEDDING else str(trigger.name)


def bounds(hits: int, n: int) -> tuple[float, float]:
    low = stats.beta.ppf(0.025, hits, n - hits + 1) if hits else 0.0
    high = stats.beta.ppf(0.975, hits + 1, n - hits) if hits < n else 1.0
    return float(low), float(high)


def rules_of(a_day: int, window_n: int) -> WatchRules:
    return WatchRules(window_n=window_n, baseline_ms=DAY_MS - DAY_MS // a_day if a_day else 0)


def entries_that_depend(versions: int, window_n: int = 1_000) -> list[dict[str, Any]]:
    figures = []
    quick = [one for one in SIGNALS if one.of not in (ALL, EMBEDDING)]
    joint = [one for one in SIGNALS if one.of == ALL]
    say(
        f"entries that depend on each other, windows of {window_n}; versions with an alarm within {WINDOWS} windows, and how soon a change is found"
    )
    for name, (traffic, a_day) in TRAFFIC.items():
        for triggers, n in ((quick, versions), (joint, max(1, versions // 5))):
            random = np.random.default_rng(11)
            still = [version(random, traffic, a_day, triggers, rules_of(a_day, window_n), WINDOWS) for _ in range(n)]
            moved = {
                shift: [
                    version(random, traffic, a_day, triggers, rules_of(a_day, window_n), 6, shift) for _ in range(max(1, n // 2))
                ]
                for shift in CHANGES
            }
            for trigger in still[0]:
                wrong = sum(np.isfinite(one[trigger]) for one in still)
                low, high = bounds(wrong, n)
                words, facts = "", {}
                for shift, versions_ in moved.items() if trigger != "chi_square" else ():
                    soon = np.array([one[trigger] for one in versions_])
                    found, middle = float(np.mean(soon <= 3 * window_n)), float(np.median(soon))
                    words += f"; mean + {shift:g}: {found:.0%} within {3 * window_n}, median {middle:.0f}"
                    facts[f"found_{shift:g}"] = found
                say(f"  {name:<24} {trigger:<11} false alarms of {wrong} of {n} versions ({low:.1%} to {high:.1%}){words}")
                figures.append(
                    figure(
                        f"{trigger}: {name}, versions with a false alarm",
                        wrong / n,
                        "share",
                        "at most 0.05",
                        low <= 0.05,
                        low=low,
                        high=high,
                        **facts,
                    )
                )
    return figures


def accuracies(versions: int, answers: int = 20_000, window_n: int = 200) -> list[dict[str, Any]]:
    """Accuracies that do not change, and accuracies that fall by ten points."""
    figures, rules = [], WatchRules(window_n=window_n)
    say(
        f"accuracy, windows of {window_n} labelled answers: versions with an alarm within {answers}, and how soon a fall of 10 points is found"
    )
    for share in (0.6, 0.8, 0.9, 0.95, 0.99):
        random = np.random.default_rng(13)
        # Only the test of accuracy: river's detectors are slow, and their alarms need a significant fall by the same test.
        hits = sum(np.isfinite(_answered(random, share, share, answers, rules, ANSWERS[:1])) for _ in range(versions))
        soon = [_answered(random, share, share - 0.1, 10 * window_n, rules, ANSWERS[:1]) for _ in range(versions)]
        low, high = bounds(hits, versions)
        found, middle = float(np.mean(np.array(soon) <= 1_000)), float(np.median(soon))
        say(
            f"  {share:<5} false alarms of {hits} of {versions} versions ({low:.1%} to {high:.1%}); found within 1,000: {found:.0%}, median {middle:.0f}"
        )
        figures.append(
            figure(
                f"accuracy {share}: versions with a false alarm within {answers} answers",
                hits / versions,
                "share",
                "at most 0.05",
                low <= 0.05,
                low=low,
                high=high,
                found=found,
                median_records=middle if np.isfinite(middle) else None,
            )
        )
    return figures


def _answered(
    random: np.random.Generator, before: float, after: float, answers: int, rules: WatchRules, triggers: Sequence[Trigger]
) -> float:
    """Number of answers after the baseline until the first alarm."""
    watch = VersionWatch((RIGHT,), triggers, rules)
    watch.add((random.random((rules.window_n, 1)) < before).astype(np.float32), 1)
    for seen in range(rules.window_n, answers + 1, rules.window_n):
        if watch.add((random.random((rules.window_n, 1)) < after).astype(np.float32), 1):
            return float(seen)
    return float("inf")
