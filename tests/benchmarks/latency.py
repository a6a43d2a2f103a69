"""`./millrace bench latency`: p50 and p99 at shares of the highest rate, exactly once and at least once.

The highest rate is what the worker answers while a sender produces as fast as it can. Then requests are sent open loop: by the clock,
whether or not earlier ones were answered. Sender, worker and reader are processes of their own, and share the cores with the
broker. The sender writes the time into the request id, by the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from infra.settings import ROOT
from schemas.codec import Encoder
from streams import headers as h
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.process.arguments import real, whole
from streams.rows import OutRecords
from streams.schema_registry import Registry
from tests.benchmarks.mlp import REQUESTS, RESULTS, WIDTH
from tests.benchmarks.worker import WARM_S, figure, report, say, servers, skip_backlog

SHARES = (0.25, 0.5, 0.8)
TICK_S = 0.002  # the sender produces what is due this often
AHEAD = 5_000  # unbounded rate: so many requests may wait for their answers
END_S = 3.0


def send(bootstrap: str, registry_url: str, per_second: float, seconds: float) -> None:
    """Produce at a rate; 0 produces as fast as the queue of the client takes it, at most AHEAD beyond what was delivered."""
    encoder, sink = Encoder.of(REQUESTS, Registry(registry_url)), KafkaSink(KafkaAddress(bootstrap=bootstrap), None)
    (value,) = encoder.encode({"name": ["x"], "tensor": np.ones((1, WIDTH), "<f4"), "sent_ms": [0]}, 1)
    begun_s, sent = time.monotonic(), 0
    while (passed_s := time.monotonic() - begun_s) < seconds:
        due = int(passed_s * per_second) - sent if per_second else AHEAD
        if due:
            ids = [f"{time.monotonic_ns()}-{sent + i}" for i in range(due)]
            headers = h.cloud_event(ids, "tensor-request", "bench")
            sink.produce(OutRecords(REQUESTS.name, [b"x"] * due, [value] * due, headers))
            sent += due
        if per_second:
            time.sleep(TICK_S)
        else:
            sink.flush(30)
    sink.flush(30)
    sink.close()


@contextmanager
def worker(bootstrap: str, registry_url: str, delivery: str) -> Iterator[None]:
    group = f"bench-latency-{time.time_ns()}"
    skip_backlog(bootstrap, group)
    command = [sys.executable, "-m", "tests.benchmarks.runners", "ours", bootstrap, registry_url, group, "0", "0", delivery]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def read(bootstrap: str, registry_url: str, per_second: float, seconds: float) -> tuple[np.ndarray, float]:
    """After the warm-up: latencies in ms of the requests sent then, shape (n,), and answers per second, whenever they were asked."""
    results = KafkaBroadcast(KafkaAddress(bootstrap=bootstrap), RESULTS.name, SystemClock(), "end")
    command = [sys.executable, "-m", "tests.benchmarks.latency", "--send", bootstrap, registry_url, str(per_second)]
    sender = subprocess.Popen([*command, str(WARM_S + seconds)], cwd=ROOT)
    counts_from_ns, latencies, answers = time.monotonic_ns() + int(WARM_S * 1e9), list[float](), 0
    counts_until_ns = counts_from_ns + int(seconds * 1e9)
    try:
        while time.monotonic_ns() < counts_until_ns + int(END_S * 1e9):
            polled = results.wait(0.1)
            now_ns = time.monotonic_ns()
            answers += len(polled) if counts_from_ns < now_ns < counts_until_ns else 0
            sent_ns = (int(dict(headers or ())[h.CE_ID].partition(b"-")[0]) for headers in polled.headers)
            latencies += [(now_ns - at) / 1e6 for at in sent_ns if at > counts_from_ns]
    finally:
        sender.terminate()
        sender.wait(30)
        results.close()
    return np.array(latencies), answers / seconds


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
    parser.add_argument("--send", nargs=4, metavar=("BOOTSTRAP", "REGISTRY", "RATE", "SECONDS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.send:
        bootstrap, registry_url, per_second, seconds = chosen.send
        send(bootstrap, registry_url, float(per_second), float(seconds))
        return
    load_before, figures = os.getloadavg()[0], list[dict[str, Any]]()
    for _ in range(chosen.rounds):
        with servers() as (bootstrap, registry_url):
            for delivery in ("at-least-once", "exactly-once"):
                figures += curve(bootstrap, registry_url, delivery, chosen.seconds)
    report("latency", figures, load_before, chosen.json)


if __name__ == "__main__":
    main()
