"""`./millrace bench drift`: false alarms if nothing changes, and the delay until shifts of given size are detected. Uses
simulated entries, and digits through `vision-digits` if the data folder has them (--data), through the watch that the
detectors run; no broker."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage, stats

from inference_workers.kinds.image_classification import ImageInput
from inference_workers.models.addresses import open_source
from inference_workers.networks.embedding import WIDTH, reduced
from inference_workers.task import Version, find_task
from schemas.signals import ALL, CATEGORY, EMBEDDED, EMBEDDING, SAID
from streams.process.arguments import whole
from tests.benchmarks.dependence import accuracies, entries_that_depend, named
from tests.benchmarks.worker import figure, report, say
from training_triggers.drift.detect import ANSWERS, SIGNALS, of_log
from training_triggers.drift.version_watch import Matrix, VersionWatch, WatchRules
from training_triggers.triggers import chi_square, ks, mmd
from training_triggers.triggers.trigger import Trigger

Draw = Callable[[np.random.Generator, int], np.ndarray]
DEMO_PER_S = 200  # entries per second at the demo's traffic
GOAL_RECORDS = 2_000

STILL: dict[str, Draw] = {
    "normal": lambda random, n: random.normal(size=n),
    "lengths": lambda random, n: np.round(random.lognormal(4.0, 0.8, n)),
    "probabilities": lambda random, n: random.beta(0.3, 3.0, n),
    "flags": lambda random, n: (random.random(n) < 0.1).astype(float),
}
# The changed versions of a standard normal signal, by name.
SHIFTS: dict[str, Draw] = {
    "mean + 0.2 deviations": lambda random, n: random.normal(0.2, 1.0, n),
    "mean + 0.3 deviations": lambda random, n: random.normal(0.3, 1.0, n),
    "mean + 0.5 deviations": lambda random, n: random.normal(0.5, 1.0, n),
    "mean + 1 deviation": lambda random, n: random.normal(1.0, 1.0, n),
    "deviation x 1.5": lambda random, n: random.normal(0.0, 1.5, n),
    "a tenth elsewhere (+ 5)": lambda random, n: random.normal(0.0, 1.0, n) + 5.0 * (random.random(n) < 0.1),
    "a fifth missing": lambda random, n: np.where(random.random(n) < 0.2, np.nan, random.normal(size=n)),
}


def _moved(matrix: Sequence[Sequence[float]], pixels: np.ndarray) -> np.ndarray:
    """Transforms the picture about its centre."""
    middle = (np.array(pixels.shape) - 1) / 2
    return np.asarray(ndimage.affine_transform(pixels, np.array(matrix), middle - np.array(matrix) @ middle, order=1))


def _turned(degrees: float) -> Callable[[np.ndarray], np.ndarray]:
    a = math.radians(degrees)
    return lambda pixels: _moved([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]], pixels)


NOISE = np.random.default_rng(5)
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned by 10 degrees": _turned(10),
    "turned by 20 degrees": _turned(20),
    "turned by 30 degrees": _turned(30),
    "sheared by 0.4": lambda pixels: _moved([[1.0, 0.0], [0.4, 1.0]], pixels),
    "nine tenths the size": lambda pixels: _moved([[1 / 0.9, 0.0], [0.0, 1 / 0.9]], pixels),
    "noise of 10 of 255": lambda pixels: pixels + NOISE.normal(0, 10, pixels.shape),
    "noise of 25 of 255": lambda pixels: pixels + NOISE.normal(0, 25, pixels.shape),
    "upside down": lambda pixels: pixels[::-1],
}


def watch(names: Sequence[str], triggers: Sequence[Trigger], rules: WatchRules) -> VersionWatch:
    return VersionWatch(tuple(names), triggers, rules)


def false_alarms(windows: int, seed: int, triggers: Sequence[Trigger], rules: WatchRules) -> dict[str, int]:
    """Alarms by trigger over `windows` windows of eight signals, an embedding and a class that do not change, with a new
    baseline every 50 windows."""
    random, found = np.random.default_rng(seed), {named(trigger): 0 for trigger in triggers}
    names = [*(f"s{i}" for i in range(8)), *(f"{EMBEDDED}{i:02d}" for i in range(WIDTH)), SAID]
    draws = [*STILL.values(), *STILL.values(), *[STILL["normal"]] * WIDTH, _classes((0.6, 0.2, 0.1, 0.1))]
    for _ in range(windows // 50):
        one = watch(names, triggers, rules)
        for _ in range(51):
            entries = np.stack([draw(random, rules.window_n) for draw in draws], axis=1).astype(np.float32)
            for alarm in one.add(entries, 0):
                found[named(alarm.trigger)] += 1
    return found


def delays(
    before: Draw,
    after: Draw,
    triggers: Sequence[Trigger],
    rules: WatchRules,
    rounds: int,
    most: int,
    names: Sequence[str] = ("s", "t"),
) -> dict[str, list[float]]:
    """names: the columns to draw; if there are two and only one is drawn, the second is normal and does not change. For each
    trigger: number of entries from the onset, which is anywhere in a window, to the alarm; infinite if there was none."""
    random, found = np.random.default_rng(7), {named(trigger): list[float]() for trigger in triggers}
    for _ in range(rounds):
        one, quiet = watch(names, triggers, rules), int(random.integers(0, rules.window_n))
        one.add(_columns(before, random, 2 * rules.window_n + quiet, len(names)), 0)
        at = {named(trigger): float("inf") for trigger in triggers}
        for came in range(100, most + 1, 100):
            for alarm in one.add(_columns(after, random, 100, len(names)), 0):
                at[named(alarm.trigger)] = min(at[named(alarm.trigger)], came)
        for name, entries in at.items():
            found[name].append(entries)
    return found


def told(title: str, found: dict[str, list[float]], within: int) -> None:
    for name, entries in found.items():
        middle = np.median(entries)
        share = np.mean(np.array(entries) <= within)
        said = f"{middle:.0f}" if np.isfinite(middle) else "none"
        say(f"  {title:<28} {name:<17} found within {within}: {share:>4.0%}   median records {said}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--windows", type=whole(), default=40_000)
    parser.add_argument("--rounds", type=whole(), default=100)
    parser.add_argument("--versions", type=whole(), default=100, help="that are watched, of each kind of traffic and accuracy")
    parser.add_argument("--data", type=Path, help="the folder of the data sets")
    chosen = parser.parse_args()
    load_before, rules, figures = os.getloadavg()[0], WatchRules(), list[dict[str, Any]]()

    say(f"no change: {chosen.windows} windows of {rules.window_n} entries, 8 signals, alarms after {rules.in_a_row} in a row")
    windows_a_day = DEMO_PER_S * 86_400 / rules.window_n
    quick = [trigger for trigger in SIGNALS if trigger.of not in (ALL, EMBEDDING)]
    for triggers, windows in ((quick, chosen.windows), ([mmd.TRIGGER, mmd.EMBEDDINGS], chosen.windows // 20)):
        for name, n in false_alarms(windows, 1, triggers, rules).items():
            a_day = float(stats.chi2.ppf(0.95, 2 * n + 2) / 2) / windows * windows_a_day  # bound of a Poisson count
            say(f"  {name}: {n} alarms in {windows} windows; at {DEMO_PER_S} entries/s at most {a_day:.1f} a day (95 %)")
            figures.append(
                figure(f"false alarms of {name}, at most a day", a_day, "a day", "printed", None, alarms=n, windows=windows)
            )

    say("a normal signal changes, at any place in a window")
    for name, after in SHIFTS.items():
        found = delays(
            STILL["normal"], after, [one for one in SIGNALS if one.of not in (CATEGORY, EMBEDDING)], rules, chosen.rounds, 6_000
        )
        told(name, found, 3_000)
        for trigger, entries in found.items():
            figures.append(
                figure(
                    f"{trigger}: {name}, found within 3000",
                    float(np.mean(np.array(entries) <= 3_000)),
                    "share",
                    "printed",
                    None,
                    median_records=float(np.median(entries)) if np.isfinite(np.median(entries)) else None,
                )
            )
    say("the classes that are told change: of 60, 20, 10 and 10 %, so many points move from the first to the last")
    for points in (0.05, 0.1, 0.15, 0.2):
        after = _classes((0.6 - points, 0.2, 0.1, 0.1 + points))
        found = delays(_classes((0.6, 0.2, 0.1, 0.1)), after, [chi_square.TRIGGER], rules, chosen.rounds, 6_000, (SAID,))
        told(f"{points:.0%} of the answers", found, 3_000)
        figures.append(
            figure(
                f"chi_square: {points:.0%} of the answers, found within 3000",
                float(np.mean(np.array(found["chi_square"]) <= 3_000)),
                "share",
                "printed",
                None,
            )
        )
    soon = np.array(delays(STILL["normal"], SHIFTS["mean + 1 deviation"], [ks.TRIGGER], rules, chosen.rounds, 4_000)["ks"])
    within = float(np.mean(soon <= GOAL_RECORDS))
    figures.append(figure("ks: mean + 1 deviation, found within 2000", within, "share", "1", within == 1.0))

    answers = WatchRules(window_n=200)
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
    figures += entries_that_depend(chosen.versions) + accuracies(chosen.versions)
    if chosen.data:
        figures += pictures(chosen.data, rules, max(1, chosen.rounds // 4))
    report("drift", figures, load_before, chosen.json)


def pictures(data: Path, rules: WatchRules, rounds: int) -> list[dict[str, Any]]:
    """MNIST's digits through the shipped network, then the same digits changed."""
    from training_triggers.trainers import vision_digits

    trained, held_out = vision_digits.load(data)
    pixels, figures = np.concatenate([trained.pixels, held_out.pixels]), list[dict[str, Any]]()
    names, before = through_the_network(pixels)
    say(f"digits through vision-digits change: {len(names)} columns, of which {WIDTH} are the embedding's")
    for title, change in CHANGES.items():
        _, after = through_the_network(np.stack([change(one.astype(np.float64)) for one in pixels]).clip(0, 255).astype(np.uint8))
        found = delays(_rows_of(before), _rows_of(after), SIGNALS, rules, rounds, 6_000, names)
        told(title, found, 3_000)
        for name, entries in found.items():
            share = float(np.mean(np.array(entries) <= 3_000))
            figures.append(figure(f"{name}: digits {title}, found within 3000", share, "share", "printed", None))
    return figures


def through_the_network(pixels: np.ndarray) -> tuple[Sequence[str], Matrix]:
    """Names of the columns, and the drift detector's input for each picture."""
    folder = open_source("shipped:vision-digits")
    task = find_task("vision")
    versions = {folder.name: Version(folder, task.load(folder, folder.name))}
    (use,) = task.predict([ImageInput(one[..., None], 1) for one in pixels], versions).uses
    assert use.embedding is not None
    found = of_log(
        {
            "arm": "live",
            "model": folder.name,
            "version": "1",
            "started_ms": 1,
            "request_ids": range(len(pixels)),
            "features": [],
            "signals": [{"name": name, "values": values.tobytes()} for name, values in use.signals.items()],
            "thresholds": b"",
            "outputs": use.outputs.tobytes(),
            "outputs_dtype": "<f4",
            "output_names": use.names,
            "embeddings": reduced(use.embedding).tobytes(),
        }
    )
    assert found is not None
    return found[3], found[4]


def _rows_of(entries: Matrix) -> Draw:
    return lambda random, n: entries[random.integers(0, len(entries), n)]


def _columns(first: Draw, random: np.random.Generator, n: int, width: int) -> Matrix:
    drawn = first(random, n)
    if drawn.ndim == 2:
        return drawn
    return np.stack([drawn, *(random.normal(size=n) for _ in range(width - 1))], axis=1).astype(np.float32)


def _classes(shares: Sequence[float]) -> Draw:
    return lambda random, n: random.choice(len(shares), n, p=shares).astype(float)


def _right(share: float) -> Draw:
    return lambda random, n: (random.random(n) < share).astype(float)


if __name__ == "__main__":
    main()
