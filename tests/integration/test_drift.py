"""Detectors and the decision on a real broker: killed with -9 while records flow, the findings are those of one pass, each once,
and they ask for one run."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.settings import ROOT
from schemas.catalogue import topic as topic_of
from schemas.codec import Encoder
from schemas.encoding import Constant
from schemas.topics import DRIFT_EVENTS, PREDICTION_LOG, PREDICTION_OUTCOMES, TRAINING_EVENTS, TRAINING_REQUESTS
from streams.kafka.readback import records
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords
from streams.schema_registry import Registry
from tests.conftest import Servers
from tests.support.waiting import until
from training_triggers.drift.detect import ANSWERS, SIGNALS
from training_triggers.drift.version_watch import VersionWatch, WatchRules

pytestmark = pytest.mark.real
WINDOW, ANSWERS_WINDOW = 200, 100


class Loops:
    """One process with all three loops."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.env = {
            **os.environ,
            "MILLRACE_BOOTSTRAP": servers.bootstrap,
            "MILLRACE_REGISTRY": servers.registry,
            "PYTHONPATH": str(ROOT),
            "MILLRACE_DRIFT_WINDOW_ENTRIES": str(WINDOW),
            "MILLRACE_ACCURACY_WINDOW_ANSWERS": str(ANSWERS_WINDOW),
            "MILLRACE_SESSION_TIMEOUT_MS": "6000",
            "MILLRACE_DRIFT_BASELINE_S": "0",
        }
        self.log = (folder / "loops.log").open("ab")
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "training_triggers", "serve", "drift", "accuracy", "decide"]
        return subprocess.Popen(command, env=self.env, stdout=self.log, stderr=self.log)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        self.process = self.start()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)
        self.log.close()


@pytest.fixture
def loops(servers: Servers, tmp_path: Path) -> Iterator[Loops]:
    made = Loops(servers, tmp_path)
    yield made
    made.stop()


def read(servers: Servers, topic: str, model: str) -> list[dict[str, Any]]:
    return [one for one in records(servers.address, topic_of(topic), Registry(servers.registry)) if one["model"] == model]


def produce(sink: KafkaSink, topic: str, key: str, encoder: Encoder, record: dict[str, Any], partition: int) -> None:
    (value,) = encoder.encode({name: Constant(value) for name, value in record.items()}, 1)
    sink.produce(OutRecords(topic, [key.encode()], [value], [[]], [partition]))


def test_a_shift_is_found_once_and_asks_for_one_run_whatever_is_killed(servers: Servers, loops: Loops) -> None:
    ids, sink, model = Registry(servers.registry), KafkaSink(servers.address, None), f"m-{uuid.uuid4().hex[:6]}"
    log = Encoder.of(PREDICTION_LOG, ids)
    outcomes = Encoder.of(PREDICTION_OUTCOMES, ids)
    chance, numbers = random.Random(4), np.random.default_rng(4)
    entries, right = list[np.ndarray](), list[float]()
    for batch in range(130):
        n, shift = chance.randint(1, 25), 1.2 if batch >= 70 else 0.0
        values = numbers.normal(shift, 1.0, n).astype("<f4")
        embedding = numbers.normal(shift, 1.0, (n, 3)).astype("<f2")
        entries.append(np.column_stack([embedding, values]).astype(np.float32))
        # One partition, so that the order of entries, and with it each window, is the one of the reference.
        produce(
            sink,
            PREDICTION_LOG.name,
            "w",
            log,
            {
                "worker": "w",
                "task": "t",
                "model": model,
                "version": "1",
                "arm": "live",
                "started_ms": batch,
                "compute_ms": 1.0,
                "request_ids": [f"{batch}-{i}" for i in range(n)],
                "origin_topic": "t",
                "origin_partitions": bytes(4 * n),
                "origin_offsets": bytes(8 * n),
                "outputs": bytes(4 * n),
                "outputs_dtype": "<f4",
                "outputs_shape": [n],
                "signals": [{"name": "length", "values": values.tobytes()}],
                "embeddings": embedding.tobytes(),
            },
            2,
        )
        for _ in range(4):
            good = chance.random() < (0.6 if batch >= 70 else 0.95)
            right.append(float(good))
            produce(
                sink,
                PREDICTION_OUTCOMES.name,
                model,
                outcomes,
                {
                    "request_id": uuid.uuid4().hex,
                    "task": "t",
                    "model": model,
                    "version": "1",
                    "arm": "live",
                    "part": "",
                    "predicted_ms": batch,
                    "outputs": np.array([0.9, 0.1] if good else [0.1, 0.9], "<f4").tobytes(),
                    "outputs_dtype": "<f4",
                    "output_names": ["a", "b"],
                    "thresholds": b"",
                    "source": "s",
                    "truth": {"a": True, "b": False},
                    "labelled_ms": batch,
                },
                1,
            )
        sink.flush(20)
        time.sleep(0.05)
        if batch in (40, 85, 110):
            loops.kill()
    sink.close()

    drift, accuracy = (
        VersionWatch((*(f"embedding {i:02d}" for i in range(3)), "length"), SIGNALS, WatchRules(WINDOW)),
        VersionWatch(("right",), ANSWERS, WatchRules(ANSWERS_WINDOW)),
    )
    expected = [
        f"{alarm.trigger.name}/{model}/1/{alarm.signal}/{alarm.window}"
        for alarm in (*drift.add(np.concatenate(entries), 0), *accuracy.add(np.array(right, "<f4")[:, None], 0))
    ]
    assert {one.split("/")[0] for one in expected} == {"ks", "psi", "mmd", "accuracy", "page_hinkley"}

    until(lambda: len(read(servers, DRIFT_EVENTS.name, model)) >= len(expected), 90, "findings")
    until(lambda: len(read(servers, TRAINING_EVENTS.name, model)) >= len(expected), 30, "decisions")
    time.sleep(3)
    found = read(servers, DRIFT_EVENTS.name, model)
    assert sorted(one["event_id"] for one in found) == sorted(expected), "each once"
    assert {one["signal"] for one in found} == {"length", "embedding", "right"}
    decisions = read(servers, TRAINING_EVENTS.name, model)
    assert sorted(one["cause"] for one in decisions) == sorted(expected)
    (request,) = read(servers, TRAINING_REQUESTS.name, model)
    assert (request["run_key"], request["causes"]) == (decisions[0]["run_key"], [decisions[0]["cause"]])


def test_two_processes_stop_rather_than_share_a_sample(servers: Servers, loops: Loops, tmp_path: Path) -> None:
    log = tmp_path / "loops.log"
    until(lambda: '"event": "assigned"' in log.read_text(), 40, "assignment")
    second = Loops(servers, tmp_path)
    try:
        until(lambda: loops.process.poll() is not None or second.process.poll() is not None, 60, "process that stops")
        assert re.search("another runs in the group|fenced", log.read_text())
    finally:
        second.stop()
    if loops.process.poll() is not None:  # its keeper starts it again
        loops.process = loops.start()
    time.sleep(12)
    assert loops.process.poll() is None, log.read_text()[-2000:]


def test_a_further_slot_is_refused_at_once(loops: Loops) -> None:
    command = [sys.executable, "-m", "training_triggers", "serve", "drift", "--slot", "1"]
    done = subprocess.run(command, env=loops.env, capture_output=True, text=True, timeout=180, check=False)
    assert (done.returncode, "slot 1 is invalid: each of these loops runs in one process" in done.stderr) == (1, True)
