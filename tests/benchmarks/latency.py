"""`./millrace bench latency`: p50 and p99 at shares of the highest rate, exactly once and at least once.

The highest rate is what the worker answers while a sender produces as fast as it can.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from streams.process.arguments import real, whole
from tests.benchmarks.open_loop import read, worker
from tests.benchmarks.worker import figure, report, say, servers

SHARES = (0.25, 0.5, 0.8)


def curve(bootstrap: str, registry_url: str, delivery: str, seconds: float) -> Iterator[dict[str, Any]]:
    with worker(bootstrap, registry_url, delivery):
        _, highest = read(bootstrap, registry_url, 0, seconds)
    say(f"{delivery}: {highest:,.0f} requests/s at most")
    yield figure(f"highest rate, {delivery}", highest, "requests/s", "printed", None)
    for share in SHARES:
        with worker(bootstrap, registry_url, delivery):
            latencies, _ = read(bootstrap, registry_url, highest * share, seconds)
        answered_share = len(latencies) / (highest * share * seconds)
        p50, p99 = np.percentile(latencies, (50, 99)) if len(latencies) else (float("inf"), float("inf"))
        say(f"  {share:4.0%}  {highest * share:8,.0f}/s  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  answered {answered_share:.1%}")
        for q, value in ((50, p50), (99, p99)):
            name = f"latency p{q} at {share:.0%} of the highest rate, {delivery}"
            yield figure(name, float(value), "ms", "printed", None, share=share, answered=round(answered_share, 4))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=real(above=True), default=15.0)
    parser.add_argument("--rounds", type=whole(), default=1)
    chosen = parser.parse_args()
    load_before, figures = os.getloadavg()[0], list[dict[str, Any]]()
    for _ in range(chosen.rounds):
        with servers() as (bootstrap, registry_url):
            for delivery in ("at-least-once", "exactly-once"):
                figures += curve(bootstrap, registry_url, delivery, chosen.seconds)
    report("latency", figures, load_before, chosen.json)


if __name__ == "__main__":
    main()
