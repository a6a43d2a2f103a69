"""`./millrace bench gate`: how often the gate is wrong, and how often it passes an equally good candidate. Simulated; takes
seconds, no broker.

The reference is a percentile bootstrap of the paired differences (Efron and Tibshirani 1993, chapter 16), the usual method.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.benchmarks.worker import figure, report, say
from training_triggers.recorded import paired
from training_triggers.recorded.compare import compare
from training_triggers.recorded.comparison import Accuracy, Answers
from training_triggers.runs.gate import GatePolicy, judge

SIZES = (100, 200, 1_000)
MARGINS = (0.01, 0.02, 0.05)
DIFFER = (0.0, 0.01, 0.04, 0.10)  # share of the requests on which the versions differ, apart from the true difference
NOMINAL, DRAWS = 0.025, 2_000
SPAM = 0.004
Interval = Callable[[int, int, int], tuple[float, float]]


def bootstrap(gained: int, lost: int, n: int) -> tuple[float, float]:
    shares = np.array([lost, n - gained - lost, gained]) / n
    draws = np.random.default_rng(20_240_501).multinomial(n, shares, DRAWS)
    low, high = np.quantile((draws[:, 2] - draws[:, 0]) / n, [0.025, 0.975])
    return float(low), float(high)


def drawn(random: np.random.Generator, n: int, rounds: int, difference: float, differ: float) -> np.ndarray:
    """(rounds, 3): examples gained, lost and equal, for versions with a true difference of `difference` that differ on at
    least `differ` of the examples."""
    both = max(0.0, differ - abs(difference)) / 2
    gained, lost = both + max(0.0, difference), both + max(0.0, -difference)
    return random.multinomial(n, [gained, lost, 1 - gained - lost], rounds)


def shares(counts: np.ndarray, n: int, interval: Interval, holds: Callable[[float, float], bool]) -> float:
    """Share of the rounds whose interval meets the condition `holds`."""
    met: dict[tuple[int, int], bool] = {}
    for gained, lost, _ in counts.tolist():
        if (gained, lost) not in met:
            met[gained, lost] = holds(*interval(gained, lost, n))
    return float(np.mean([met[gained, lost] for gained, lost, _ in counts.tolist()]))


def measured(
    name: str, goal: str, met: Callable[[float], bool] | None, counts: np.ndarray, n: int, holds: Callable[[float, float], bool]
) -> dict[str, Any]:
    ours, theirs = (shares(counts, n, interval, holds) for interval in (paired.interval, bootstrap))
    say(f"  {name:<66} {ours:7.1%}   bootstrap {theirs:7.1%}   {goal}")
    return figure(
        name, ours, "share", goal, met(ours) if met else None, reference="percentile bootstrap", reference_value=round(theirs, 4)
    )


def _error(rounds: int, share: float) -> float:
    """Three standard deviations of a share estimated from `rounds` simulations."""
    return 3 * math.sqrt(share * (1 - share) / rounds)


def coverage(random: np.random.Generator, rounds: int) -> list[dict[str, Any]]:
    say("how often the interval holds the true difference: 95 % is meant")
    least = 0.95 - 0.01 - _error(rounds, 0.95)
    return [
        measured(
            f"coverage, n {n}, difference {difference:+.2f}, {differ:.0%} differ",
            f"at least {least:.3f}",
            lambda x: x >= least,
            drawn(random, n, rounds, difference, differ),
            n,
            lambda low, high, d=difference: low <= d <= high,  # type: ignore[misc]
        )
        for n in SIZES
        for difference in (0.0, -0.01, 0.05)
        for differ in (0.01, 0.04, 0.10)
        if differ >= abs(difference)
    ]


def errors(random: np.random.Generator, rounds: int) -> list[dict[str, Any]]:
    say("how often a candidate passes that is worse by the margin, or by twice the margin: 2.5 % is meant, at most")
    most = NOMINAL + 0.002 + _error(rounds, NOMINAL)
    found = []
    for margin in MARGINS:
        for times in (1, 2):
            for n in SIZES:
                for differ in DIFFER:
                    if differ and differ <= times * margin:
                        continue
                    found.append(
                        measured(
                            f"passes at {times} x margin {margin}, n {n}, {max(differ, times * margin):.0%} differ",
                            f"at most {most:.3f}",
                            lambda x: x <= most,
                            drawn(random, n, rounds, -times * margin, differ),
                            n,
                            lambda low, high, m=margin: low > -m,  # type: ignore[misc]
                        )
                    )
    return found


def power(random: np.random.Generator, rounds: int) -> list[dict[str, Any]]:
    say(
        "how often an equal candidate passes, which differs on so many requests; at the number that a verdict names four of five are meant"
    )
    found = []
    for margin in (0.02, 0.05):
        for differ in DIFFER[1:]:
            for n in (*SIZES, paired.needed(differ, margin)):
                is_named = n not in SIZES
                found.append(
                    measured(
                        f"equal passes at margin {margin}, n {n}, {differ:.0%} differ",
                        "at least 0.75" if is_named else "printed",
                        (lambda x: x >= 0.75) if is_named else None,
                        drawn(random, n, rounds, 0.0, differ),
                        n,
                        lambda low, high, m=margin: low > -m,  # type: ignore[misc]
                    )
                )
    return found


def answers(said: np.ndarray) -> Answers:
    outputs = np.where(said, 0.9, 0.1)[:, None]
    return Answers("1", ("spam",), [str(i) for i in range(len(said))], [""] * len(said), outputs, np.array([0.5]), 1.0, 1)


def passes(champion: np.ndarray, candidate: np.ndarray, truth: np.ndarray, labelled: np.ndarray) -> tuple[bool, bool]:
    """Whether the gate passes the candidate, and whether its overall accuracy alone would pass, by the bootstrap."""
    known = {str(i): {"spam": bool(truth[i])} for i in np.flatnonzero(labelled).tolist()}
    found = compare(answers(champion), answers(candidate), known)
    told: Accuracy | None = found.accuracy
    alone = told is not None and bootstrap(told.gained, told.lost, told.labelled)[0] > -0.01
    return judge(found, GatePolicy()).passes, alone


def scenes(random: np.random.Generator, rounds: int) -> list[dict[str, Any]]:
    """The complete gate, on traffic that a single number does not describe."""
    say(f"the gate whole, {rounds} rounds each: imbalance (spam {SPAM:.1%}) and labels that are not of a fair sample")
    found = []

    def scene(name: str, goal: str, met: Callable[[float], bool] | None, draw: Callable[[], tuple[np.ndarray, ...]]) -> None:
        both = np.mean([passes(*draw()) for _ in range(rounds)], axis=0)
        say(f"  {name:<66} {both[0]:7.1%}   accuracy alone {both[1]:7.1%}   {goal}")
        found.append(
            figure(
                name,
                float(both[0]),
                "share",
                goal,
                met(float(both[0])) if met else None,
                reference="overall accuracy alone, bootstrap",
                reference_value=round(float(both[1]), 4),
            )
        )

    def flags(truth: np.ndarray, recall: float, false: float) -> np.ndarray:
        return np.where(truth, random.random(len(truth)) < recall, random.random(len(truth)) < false)

    for n in (1_000, 3_000, 10_000):

        def never(n: int = n) -> tuple[np.ndarray, ...]:
            truth = random.random(n) < SPAM
            truth[:5] = True  # so that at least some are true
            return flags(truth, 0.9, 0.001), np.zeros(n, np.bool_), truth, np.ones(n, np.bool_)

        scene(f"never flags, {n} labelled", "0", lambda x: x == 0, never)

    def half(n: int = 5_000) -> tuple[np.ndarray, ...]:
        truth = random.random(n) < 0.1
        champion = flags(truth, 0.9, 0.01)
        return champion, champion | (random.random(n) < 0.5) & ~champion, truth, champion

    def equal(labelled: float, differ: float = 0.005, n: int = 5_000) -> tuple[np.ndarray, ...]:
        truth = random.random(n) < 0.2
        champion = flags(truth, 0.95, 0.005)
        return champion, champion ^ (random.random(n) < differ), truth, random.random(n) < labelled

    def drifted(n: int = 5_000) -> tuple[np.ndarray, ...]:
        truth, new = random.random(n) < 0.4, random.random(n) < 0.5
        champion = flags(truth & ~new, 0.95, 0.005)
        return champion, flags(truth, 0.95, 0.005), truth, random.random(n) < 0.2

    scene("flags half of the rest, labels of what was flagged", "0", lambda x: x == 0, half)
    scene("as good, labels of a tenth, drawn at random", "printed", None, lambda: equal(0.1))
    scene("as good, labels of a fifth, drawn at random", "at least 0.8", lambda x: x >= 0.8, lambda: equal(0.2))
    scene("as good, all labelled", "at least 0.8", lambda x: x >= 0.8, lambda: equal(1.0))
    scene("knows a new kind, labels of a fifth, drawn at random", "at least 0.8", lambda x: x >= 0.8, drifted)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=10_000)
    chosen = parser.parse_args()
    load_before, random = os.getloadavg()[0], np.random.default_rng(15)
    figures = [*coverage(random, chosen.rounds), *errors(random, chosen.rounds), *power(random, chosen.rounds)]
    figures += scenes(random, max(1, chosen.rounds // 500))
    report("gate", figures, load_before, chosen.json)


if __name__ == "__main__":
    main()
