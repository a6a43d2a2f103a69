"""`./millrace bench latency`: p50 and p99 at shares of the highest rate, exactly once and at least once.

The highest rate is what the worker answers while a sender produces as fast as it can.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from streams.process.arguments import real, whole
from tests.benchmarks import svg
from tests.benchmarks.open_loop import read, worker
from tests.benchmarks.svg import Line, Point, lines
from tests.benchmarks.worker import figure, report, say, servers

DELIVERIES = ("at-least-once", "exactly-once")
SHARES = (0.25, 0.5, 0.8)
QUANTILES = (50, 99)

Runs = dict[
    tuple[str, str, float], list[float]
]  # values of the rounds, by delivery, what was measured, and share of the highest rate


def measure(bootstrap: str, registry_url: str, delivery: str, seconds: float, runs: Runs) -> None:
    """One round."""
    with worker(bootstrap, registry_url, delivery):
        _, highest = read(bootstrap, registry_url, 0, seconds)
    say(f"{delivery}: {highest:,.0f} requests/s at most")
    runs[delivery, "highest rate", 1.0].append(highest)
    for share in SHARES:
        with worker(bootstrap, registry_url, delivery):
            latencies, _ = read(bootstrap, registry_url, highest * share, seconds)
        answered_share = len(latencies) / (highest * share * seconds)
        runs[delivery, "answered", share].append(answered_share)
        quantiles = np.percentile(latencies, QUANTILES) if len(latencies) else [float("inf")] * len(QUANTILES)
        for q, value in zip(QUANTILES, quantiles, strict=True):
            runs[delivery, f"p{q}", share].append(float(value))
        words = "  ".join(f"p{q} {value:6.1f} ms" for q, value in zip(QUANTILES, quantiles, strict=True))
        say(f"  {share:4.0%}  {highest * share:8,.0f}/s  {words}  answered {answered_share:.1%}")


def figures_of(runs: Runs) -> list[dict[str, Any]]:
    """Medians of the rounds. Not answered within seconds is a figure too."""
    made = []
    for delivery in DELIVERIES:
        highest = runs[delivery, "highest rate", 1.0]
        rate = statistics.median(highest)
        made.append(_figure(f"highest rate, {delivery}", highest, "requests/s"))
        for share in SHARES:
            answered = round(min(runs[delivery, "answered", share]), 4)
            for q in QUANTILES:
                name = f"latency p{q} at {share:.0%} of the highest rate, {delivery}"
                more = {"delivery": delivery, "quantile": q, "share": share, "rate": round(rate * share, 1)}
                made.append(_figure(name, runs[delivery, f"p{q}", share], "ms", answered=answered, **more))
    return made


def _figure(name: str, values: Sequence[float], unit: str, **more: Any) -> dict[str, Any]:
    spread = [round(min(values), 2), round(max(values), 2)]
    return figure(name, statistics.median(values), unit, "printed", None, spread=spread, **more)


def chart(figures: Sequence[dict[str, Any]]) -> str:
    drawn = []
    for delivery in DELIVERIES:
        for q in QUANTILES:
            of_line = [one for one in figures if one.get("delivery") == delivery and one["quantile"] == q]
            points = [Point(round(one["rate"]), one["value"], *one["spread"]) for one in of_line]
            name = f"{delivery.replace('-', ' ')}, p{q}"
            drawn.append(Line(name, points, ours=delivery == "exactly-once", dashed=q == 50))
    return lines("Latency in ms at 25, 50 and 80 % of the highest rate", "requests per second", drawn)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./millrace bench latency")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=real(above=True), default=15.0)
    parser.add_argument("--rounds", type=whole(), default=3)
    svg.add_option(parser, "latency")
    chosen = parser.parse_args()
    load_before = os.getloadavg()[0]
    runs: Runs = defaultdict(list)
    for number in range(chosen.rounds):
        with servers() as (bootstrap, registry_url):
            for delivery in DELIVERIES if number % 2 == 0 else reversed(DELIVERIES):
                measure(bootstrap, registry_url, delivery, chosen.seconds, runs)
    figures = figures_of(runs)
    report("latency", figures, load_before, chosen.json)
    if chosen.svg is not None:
        svg.write(chosen.svg, chart(figures))


if __name__ == "__main__":
    main()
