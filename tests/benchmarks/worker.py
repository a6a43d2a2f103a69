"""`./millrace bench worker`: throughput, a heavier model, latency; each with its references in the same run."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from infra.local import apicurio, kafka, processes
from infra.provision import provision
from infra.settings import ROOT, StackSettings
from schemas.codec import Encoder
from schemas.topics import PREDICTION_LOG, REPLIES
from streams import headers as h
from streams.ids import uuid7
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.process.arguments import real, whole
from streams.process.settings import load
from streams.rows import OutRecords
from streams.schema_registry import Registry
from tests.benchmarks import open_loop
from tests.benchmarks.commands import runner
from tests.benchmarks.mlp import REQUESTS, RESULTS
from tests.benchmarks.network import WIDTH

HEAVY = 180  # middle layers of the heavier model: about a millisecond per record
QUIET_LOAD = 0.5
PROGRAMS = ["plain", "best", "ours"]


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


@contextmanager
def servers(partitions: int = 1) -> Iterator[tuple[str, str]]:
    """A broker and a registry for this run only, in a temporary folder. partitions: of the requests and results."""
    jars = load(StackSettings, os.environ).jars
    folder = Path(tempfile.mkdtemp(prefix="millrace-bench-"))
    started = [
        apicurio.start_registry(folder / "registry", jars, folder / "registry.log"),
        kafka.start_kafka(folder / "kafka", jars, folder / "kafka.log", long_lived=True),
    ]
    try:
        processes.wait_until(lambda: kafka.answers(started[1].address), started[1], kafka.START_LIMIT_S)
        processes.wait_until(lambda: apicurio.answers(started[0].address), started[0], apicurio.START_LIMIT_S)
        admin = KafkaAdmin(KafkaAddress(bootstrap=started[1].address))
        topics = [replace(topic, partitions=partitions) for topic in (REQUESTS, RESULTS)]
        provision(admin, Registry(started[0].address), [*topics, PREDICTION_LOG, REPLIES], [])
        yield started[1].address, started[0].address
    finally:
        for process in reversed(started):
            processes.stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def fill(bootstrap: str, registry_url: str, count: int) -> None:
    encoder = Encoder.of(REQUESTS, Registry(registry_url))
    sink = KafkaSink(KafkaAddress(bootstrap=bootstrap), None)
    random, now_ms = np.random.default_rng(0), int(time.time() * 1000)
    for at in range(0, count, 1000):
        n = min(1000, count - at)
        names = [f"r-{at + i}" for i in range(n)]
        tensors = random.standard_normal((n, WIDTH)).astype("<f4")
        values = encoder.encode({"name": names, "tensor": tensors, "sent_ms": [now_ms] * n}, n)
        headers = h.cloud_event([uuid7(now_ms) for _ in range(n)], "tensor-request", "bench")
        sink.produce(OutRecords(REQUESTS.name, [name.encode() for name in names], list(values), headers))
    sink.flush(60)
    sink.close()


def run(which: str, bootstrap: str, registry_url: str, count: int, heavy: int = 0) -> dict[str, Any]:
    group = f"bench-{which}-{time.time_ns()}"
    command = runner(which, bootstrap, registry_url, group, count=count, heavy=heavy)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        raise SystemExit(f"{which} failed: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def rounds(
    kinds: list[str], n: int, bootstrap: str, registry_url: str, count: int, heavy: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Runs each kind n times, in turn, with the order reversed each round."""
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for number in range(n):
        for kind in kinds if number % 2 == 0 else reversed(kinds):
            figures = run(kind, bootstrap, registry_url, count, heavy)
            found[kind].append(figures)
            say(
                f"  round {number + 1}  {kind:<6} {figures['records_s']:>9.0f} records/s  {figures['cpu_us']:6.1f} µs CPU a record  load {os.getloadavg()[0]:.2f}"
            )
    return found


def middle(figures: list[dict[str, Any]], name: str = "records_s") -> float:
    return float(statistics.median(one[name] for one in figures))


def figure(name: str, value: float, unit: str, goal: str, met: bool | None, **more: Any) -> dict[str, Any]:
    return {"name": name, "value": round(value, 4), "unit": unit, "goal": goal, "met": met, **more}


def against(name: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]], reference: str, goal: float) -> dict[str, Any]:
    ratio = middle(ours) / middle(theirs)
    return figure(
        name,
        middle(ours),
        "records/s",
        f"at least {goal} times the reference",
        ratio >= goal,
        reference=reference,
        reference_value=round(middle(theirs), 1),
        ratio=round(ratio, 3),
        spread=[round(f(one["records_s"] for one in ours), 1) for f in (min, max)],
        reference_spread=[round(f(one["records_s"] for one in theirs), 1) for f in (min, max)],
        cpu_us_a_record=round(middle(ours, "cpu_us"), 2),
        reference_cpu_us_a_record=round(middle(theirs, "cpu_us"), 2),
    )


def throughput(bootstrap: str, registry_url: str, count: int, n: int) -> list[dict[str, Any]]:
    say(f"throughput, exactly once, {count} requests of 32 floats, headers and prediction log written")
    found = rounds(PROGRAMS, n, bootstrap, registry_url, count)
    profiled = run("profiled", bootstrap, registry_url, count)
    parts = {name: round(seconds / count * 1e6, 3) for name, seconds in profiled["parts"].items()}
    parts["the rest of the loop"] = round(profiled["wall_s"] / count * 1e6 - sum(parts.values()), 3)
    say("  µs a record: " + ", ".join(f"{name} {us:.2f}" for name, us in parts.items()))
    return [
        against("throughput against the plain loop", found["ours"], found["plain"], "plain loop, one codec call a record", 2.0),
        against("throughput against the best plain loop", found["ours"], found["best"], "one codec call a batch", 1.0),
        figure("where the time goes", profiled["wall_s"] / count * 1e6, "µs a record", "printed", None, parts=parts),
    ]


def heavier(bootstrap: str, registry_url: str, count: int, n: int) -> list[dict[str, Any]]:
    say(f"a model of about 1 ms a record, {count} requests")
    found = rounds(["raw", "ours"], n, bootstrap, registry_url, count, HEAVY)
    return [against("share of the raw model loop", found["ours"], found["raw"], "the model alone at its best batch", 0.98)]


def latency(bootstrap: str, registry_url: str, delivery: str, seconds: float, load_before: float) -> list[dict[str, Any]]:
    """200 requests/s, open loop: sent by the clock whether or not earlier ones were answered."""
    say(f"latency at 200 requests/s, {delivery}, {seconds:.0f} s")
    with open_loop.worker(bootstrap, registry_url, delivery):
        latencies, _ = open_loop.read(bootstrap, registry_url, 200, seconds)
    p50, p99 = (float(np.percentile(latencies, q)) for q in (50, 99))
    say(f"  p50 {p50:.2f} ms  p99 {p99:.2f} ms  max {max(latencies):.1f} ms  n {len(latencies)}  load before {load_before:.2f}")
    quiet = load_before < QUIET_LOAD
    goals = ((50, p50, 3.0), (99, p99, 15.0)) if delivery == "at-least-once" else ((50, p50, 6.0), (99, p99, 20.0))
    return [
        figure(
            f"latency p{q}, {delivery}",
            value,
            "ms",
            f"at most {goal} ms",
            value <= goal if quiet else None,
            judged=quiet,
            load_before=round(load_before, 2),
            n=len(latencies),
        )
        for q, value, goal in goals
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=whole(), default=200_000)
    parser.add_argument("--rounds", type=whole(), default=3)
    parser.add_argument("--seconds", type=real(above=True), default=20.0)
    parser.add_argument("--only", choices=["throughput", "heavier", "latency"])
    chosen = parser.parse_args()
    load_before = os.getloadavg()[0]
    figures: list[dict[str, Any]] = []
    with servers() as (bootstrap, registry_url):
        if chosen.only in (None, "latency"):
            for delivery in ("at-least-once", "exactly-once"):
                figures += latency(bootstrap, registry_url, delivery, chosen.seconds, load_before)
        if chosen.only in (None, "throughput", "heavier"):
            fill(bootstrap, registry_url, chosen.count)
        if chosen.only in (None, "throughput"):
            figures += throughput(bootstrap, registry_url, chosen.count, chosen.rounds)
        if chosen.only in (None, "heavier"):
            figures += heavier(bootstrap, registry_url, min(6_000, chosen.count), chosen.rounds)
    report("worker", figures, load_before, chosen.json)


def report(name: str, figures: list[dict[str, Any]], load_before: float, as_json: bool) -> None:
    whole = {
        "benchmark": name,
        "commit": _commit(),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load_before": round(load_before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "figures": figures,
    }
    if as_json:
        print(json.dumps(whole))
        return
    for one in figures:
        mark = {True: "met", False: "MISSED", None: ""}[one["met"]]
        beside = (
            f"  {one['ratio']:.2f} x {one['reference_value']:.{0 if one['reference_value'] >= 10 else 3}f}"
            if "ratio" in one
            else ""
        )
        print(f"{one['name']:<42}{one['value']:>12.2f} {one['unit']:<14}{beside:<22} {one['goal']}  {mark}")


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
