"""`./millrace bench tasks`: compares each task through its topics with the bare model loop at the same batch size; latency;
batch sizes.

The reference is `prepare` and `predict` of the same task, called over batches of the same decoded requests in a process of its
own: media decoded, models run, but no Kafka and no results written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import numpy as np
import psutil

from infra.provision import provision
from infra.settings import ROOT
from schemas.catalogue import consumption
from schemas.codec import Decoder, Encoder, read_any
from schemas.encoding import Constant
from streams import headers as h
from streams.client import connect
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.process.arguments import real, whole
from streams.rows import OutRecords
from streams.schema_registry import MemoryRegistry, Registry
from tests.benchmarks.content import requests
from tests.benchmarks.worker import QUIET_LOAD, figure, report, say, servers

BATCH = 64
GOAL = 0.9
COUNT = {"moderation": 1500, "vision": 3000, "translation": 3000, "transcription": 3000}
RATE_PER_S = 20
START_LIMIT_MS = 300_000  # libraries of large models may take minutes to load the first time


def encoded(task: str, ids: Any) -> list[bytes]:
    taken = consumption(task)
    encoder = Encoder.of(taken.topic, ids)
    return [
        encoder.encode({name: Constant(_whole(value)) for name, value in one.items()}, 1)[0]
        for one in requests(taken.topic.record_name)
    ]


def _whole(value: Any) -> Any:
    if isinstance(value, dict) and "data" in value:
        return {"data": None, "uri": None, "sha256": None, "size": None, **value}
    return [_whole(one) for one in value] if isinstance(value, list) else value


# --- the reference ------------------------------------------------------------------------------------------------


def raw(task_name: str, seconds: float) -> None:
    from inference_workers.media.reader import MediaReader
    from inference_workers.task import find_task, loaded
    from schemas import avro
    from streams.claim_checks import ClaimChecks
    from streams.process.shell import spare_the_collector

    task = find_task(task_name)
    versions = {model: loaded(task, model, source) for model, source in task.models.items()}
    record, ids = task.consumption.topic.record_name, MemoryRegistry()
    ids.register(task.consumption.topic.subject, avro.schema(record))
    values = encoded(task_name, ids)
    columns, _ = Decoder(record, ids).decode((values * (BATCH // len(values) + 1))[:BATCH])
    reader = MediaReader(ClaimChecks(()))
    spare_the_collector()
    n, begun = 0, 0.0
    for number in range(10**6):
        if number == 3:  # the first ones are for warming up
            n, begun, cpu = 0, time.perf_counter(), _cpu_s()
        prepared = task.prepare(columns, versions, reader)
        task.predict(prepared.inputs, versions)
        n += BATCH
        if number > 3 and time.perf_counter() - begun > seconds:
            break
    wall_s = time.perf_counter() - begun
    print(json.dumps({"records_s": n / wall_s, "cpu_us": (_cpu_s() - cpu) / n * 1e6}), flush=True)
    reader.close()


def _cpu_s(pid: int | None = None) -> float:
    """CPU seconds of a process and its children, including the decoder."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def measure_raw(task: str, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.tasks", "--raw", task, "--seconds", str(seconds)]
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # like worker processes
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise SystemExit(f"raw {task} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


# --- through the topics -------------------------------------------------------------------------------------------


class Worker:
    """One real worker process of a task, warm and with its partitions assigned."""

    def __init__(self, bootstrap: str, registry: str, task: str) -> None:
        env = {
            **os.environ,
            "MILLRACE_BOOTSTRAP": bootstrap,
            "MILLRACE_REGISTRY": registry,
            "MILLRACE_MAX_BATCH_REQUESTS": str(BATCH),
        }
        command = [sys.executable, "-m", "inference_workers", "--task", task]
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def measure_topics(bootstrap: str, registry: str, task: str, worker: Worker, count: int) -> dict[str, Any]:
    """Results per second by the broker's clock, after all requests are in the topic: writing them is not the worker's work."""
    taken, ids, address = consumption(task), Registry(registry), KafkaAddress(bootstrap=bootstrap)
    assert taken.results is not None
    values = encoded(task, ids)
    results = KafkaBroadcast(address, taken.results.name, SystemClock(), "end")
    sink, run = KafkaSink(address, None), uuid7(int(time.time() * 1000))
    names = [f"{run}-{i}" for i in range(count)]
    cpu_s = _cpu_s(worker.process.pid)
    for at in range(0, count, 500):
        some = names[at : at + 500]
        headers = h.cloud_event(some, "bench", "bench")
        chosen = [values[(at + i) % len(values)] for i in range(len(some))]
        partitions = [(at + i) % taken.topic.partitions for i in range(len(some))]
        sink.produce(OutRecords(taken.topic.name, [name.encode() for name in some], list(chosen), headers, partitions))
    sink.flush(60)
    filled_ms = time.time() * 1000
    stamps: list[int] = []
    sizes: list[int] = []
    waiting, deadline = set(names), time.perf_counter() + 300
    while waiting and time.perf_counter() < deadline:
        polled = results.wait(0.2)
        for value, stamp in zip(polled.values, polled.timestamps_ms, strict=True):
            result = read_any(value, ids)
            if result["request_id"] in waiting:
                waiting.discard(result["request_id"])
                if result["status"] != "ok":
                    raise SystemExit(f"{task}: {result['status']}, {result['error_message']}")
                stamps.append(stamp)
                sizes.append(result["batch_size"])
    cpu_us = (_cpu_s(worker.process.pid) - cpu_s) / count * 1e6
    results.close()
    sink.close()
    if waiting:
        raise SystemExit(f"{task}: {len(waiting)} of {count} requests were not answered")
    stamps.sort()
    first = next(stamp for stamp in stamps if stamp >= filled_ms)
    after_first = sum(stamp > first for stamp in stamps)
    return {"records_s": after_first / ((stamps[-1] - first) / 1000), "cpu_us": cpu_us, "sizes": Counter(sizes)}


async def latencies(
    bootstrap: str, registry: str, task: str, seconds: float, rate_per_s: float = RATE_PER_S, deadline_ms: int = 30_000
) -> list[float]:
    """Milliseconds from before sending to the reply, at a rate in requests per second, open loop, after two seconds."""
    made = requests(consumption(task).topic.record_name)
    found: list[float] = []
    async with connect(bootstrap, registry, "bench") as client:

        async def one(fields: dict[str, Any], keep: bool) -> None:
            begun = time.perf_counter()
            result = await client.request(task, fields, deadline_ms=deadline_ms)
            assert result["status"] == "ok", result
            if keep:
                found.append((time.perf_counter() - begun) * 1000)

        begun, under_way = time.perf_counter(), []
        for i in range(int((seconds + 2) * rate_per_s)):
            await asyncio.sleep(max(0.0, begun + i / rate_per_s - time.perf_counter()))
            under_way.append(asyncio.create_task(one(made[i % len(made)], i >= 2 * rate_per_s)))
        await asyncio.gather(*under_way)
    return found


def histogram(sizes: Counter[int]) -> dict[str, int]:
    """Number of requests by the size of their batch, in powers of two."""
    found: Counter[str] = Counter()
    for size, n in sizes.items():
        top = 1 << max(0, (size - 1).bit_length())
        found[f"{top // 2 + 1}-{top}" if top > 1 else "1"] += n
    return dict(sorted(found.items(), key=lambda item: int(item[0].split("-")[0])))


def middle(of: list[dict[str, Any]], name: str) -> float:
    return float(statistics.median(one[name] for one in of))


def bench(
    bootstrap: str, registry: str, task: str, n: int, seconds: float, load_before: float, count: int
) -> list[dict[str, Any]]:
    say(f"{task}: {count} requests, batches of at most {BATCH}")
    worker = Worker(bootstrap, registry, task)
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    try:
        asyncio.run(latencies(bootstrap, registry, task, 1.0, 2, START_LIMIT_MS))  # now the worker is running and warm
        for number in range(n):
            order = [("raw", theirs), ("topics", ours)]
            for kind, kept in order if number % 2 == 0 else reversed(order):
                kept.append(
                    measure_raw(task, seconds) if kind == "raw" else measure_topics(bootstrap, registry, task, worker, count)
                )
                one = kept[-1]
                say(
                    f"  round {number + 1}  {kind:<7}{one['records_s']:>8.0f} requests/s {one['cpu_us']:>8.0f} µs CPU  load {os.getloadavg()[0]:.2f}"
                )
        rate_per_s = round(min(RATE_PER_S, middle(theirs, "records_s") / 2), 1)
        waits = asyncio.run(latencies(bootstrap, registry, task, 15.0, rate_per_s))
    finally:
        worker.stop()

    ratio = middle(ours, "records_s") / middle(theirs, "records_s")
    heavy = 1000 / middle(theirs, "records_s") >= 1.0
    sizes: Counter[int] = sum((one["sizes"] for one in ours), Counter())
    p50, p99 = (float(np.percentile(waits, q)) for q in (50, 99))
    say(f"  ratio {ratio:.3f}  p50 {p50:.1f} ms  p99 {p99:.1f} ms  batch sizes {histogram(sizes)}")
    return [
        figure(
            f"{task} through the topics",
            middle(ours, "records_s"),
            "requests/s",
            f"at least {GOAL} of the model loop" if heavy else "under 1 ms a request: printed",
            ratio >= GOAL if heavy else None,
            reference=f"prepare and predict alone, batches of {BATCH}",
            reference_value=round(middle(theirs, "records_s"), 1),
            ratio=round(ratio, 3),
            spread=[round(f(one["records_s"] for one in ours), 1) for f in (min, max)],
            reference_spread=[round(f(one["records_s"] for one in theirs), 1) for f in (min, max)],
            cpu_us_a_record=round(middle(ours, "cpu_us"), 1),
            reference_cpu_us_a_record=round(middle(theirs, "cpu_us"), 1),
            batch_sizes=histogram(sizes),
        ),
        figure(
            f"{task} latency p50 at {rate_per_s:g}/s", p50, "ms", "printed", None, judged=load_before < QUIET_LOAD, n=len(waits)
        ),
        figure(
            f"{task} latency p99 at {rate_per_s:g}/s", p99, "ms", "printed", None, judged=load_before < QUIET_LOAD, n=len(waits)
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=whole(), default=3)
    parser.add_argument("--seconds", type=real(above=True), default=5.0)
    parser.add_argument("--only", choices=list(COUNT))
    parser.add_argument("--raw", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.raw:
        raw(chosen.raw, chosen.seconds)
        return
    load_before = os.getloadavg()[0]
    figures: list[dict[str, Any]] = []
    with servers() as (bootstrap, registry):
        provision(KafkaAdmin(KafkaAddress(bootstrap=bootstrap)), Registry(registry))
        for task, count in COUNT.items():
            if chosen.only in (None, task):
                figures += bench(bootstrap, registry, task, chosen.rounds, chosen.seconds, load_before, count)
    report("tasks", figures, load_before, chosen.json)


if __name__ == "__main__":
    main()
