"""Sends requests open loop, by the clock, whether or not earlier ones were answered, and times their answers.

Sender, worker and reader are processes of their own, and share the cores with the broker. The sender writes the time into the
request id, by the monotonic clock, which all processes of a machine share.

`python -m tests.benchmarks.open_loop BOOTSTRAP REGISTRY RATE SECONDS` is the sender.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from infra.settings import ROOT
from schemas.codec import Encoder
from streams import headers as h
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords
from streams.schema_registry import Registry
from tests.benchmarks.commands import runner
from tests.benchmarks.mlp import REQUESTS, RESULTS
from tests.benchmarks.network import WIDTH

WARM_S = 20.0  # until the broker's JVM has compiled what it runs
TICK_S = 0.001  # the sender produces what is due this often
AHEAD = 5_000  # without a rate: so many requests are produced before their delivery is awaited
END_S = 3.0  # after the last request, for late answers


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
    command = runner("ours", bootstrap, registry_url, group, delivery=delivery)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def read(bootstrap: str, registry_url: str, per_second: float, seconds: float) -> tuple[np.ndarray, float]:
    """After the warm-up: latencies in ms of the requests sent then, shape (n,), and answers per second, whenever they were asked."""
    results = KafkaBroadcast(KafkaAddress(bootstrap=bootstrap), RESULTS.name, SystemClock(), "end")
    command = [sys.executable, "-m", "tests.benchmarks.open_loop", bootstrap, registry_url, str(per_second)]
    sender = subprocess.Popen([*command, str(WARM_S + seconds)], cwd=ROOT)
    counts_from_ns, latencies, answers = time.monotonic_ns() + int(WARM_S * 1e9), list[float](), 0
    counts_until_ns = counts_from_ns + int(seconds * 1e9)
    try:
        while time.monotonic_ns() < counts_until_ns + int(END_S * 1e9):
            polled = results.wait(0.1)
            now_ns = time.monotonic_ns()
            answers += len(polled) if counts_from_ns < now_ns < counts_until_ns else 0
            sent_ns = (int(dict(headers or ())[h.CE_ID].partition(b"-")[0]) for headers in polled.headers)
            latencies += [(now_ns - at) / 1e6 for at in sent_ns if counts_from_ns < at < counts_until_ns]
    finally:
        sender.terminate()
        sender.wait(30)
        results.close()
    return np.array(latencies), answers / seconds


def skip_backlog(bootstrap: str, group: str) -> None:
    """The group starts at the end of the topic."""
    end = KafkaAdmin(KafkaAddress(bootstrap=bootstrap)).ends([(REQUESTS.name, 0)])[REQUESTS.name, 0]
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    consumer.commit(offsets=[TopicPartition(REQUESTS.name, 0, end)], asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    send(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
