"""Recommendation through the topics: latency at a rate, and the time from a user's event to an answer that knows it.

A made catalogue: embeddings in clusters, neighbours at random; the networks are those of a version that exists. Users' recent events
lie in a Redis of its own. The sender goes by the clock, whether or not earlier requests were answered.

`python -m tests.benchmarks.recommendation_service --model FOLDER` runs it alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from inference_workers.models.addresses import open_source
from inference_workers.models.folder import ModelFolder, write_manifest
from inference_workers.recommending import item_index
from inference_workers.recommending.recommender import INDEX_FILE, ITEM_ARRAYS, ITEM_NAMES
from infra.local import processes, redis
from infra.provision import provision
from infra.settings import ROOT
from processors.features.feature_blob import EntityValues, pack
from processors.features.online_store import RedisStore
from processors.features.recent_events import to_text
from schemas.codec import Encoder
from schemas.features import RECENT, USER
from schemas.generated import RecommendationRequest, UserEvent
from schemas.topics import RECOMMENDATION_REQUESTS, RECOMMENDATION_RESULTS, USER_EVENTS
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
from streams.schema_registry import Registry
from tests.benchmarks.recommending.index import embeddings
from tests.benchmarks.worker import figure, report, say, servers

USERS, EVENTS, NEIGHBOURS = 1_000, 50, 16
GOAL_MS, GOAL_EVENT_S = 50.0, 2.0
WARM_S, END_S, TICK_S = 5.0, 3.0, 0.002
BROKER_WARM_S = 120.0  # until the broker's JVM has compiled what it runs; before that its requests take several times as long
TRIALS, ASK_EVERY_S, TRIAL_LIMIT_S = 60, 0.02, 10.0
CLOCK = SystemClock()


def made_version(base: ModelFolder, items: int, folder: Path) -> None:
    """A version with the networks of `base` and a made catalogue."""
    random = np.random.default_rng(3)
    for file in base.path.iterdir():
        if file.name not in (ITEM_NAMES, ITEM_ARRAYS, INDEX_FILE, "manifest.json", "config.json"):
            shutil.copy(file, folder / file.name)
    vectors, users = embeddings(folder / "embeddings.npy", items)
    index = item_index.build(vectors, users, None, threads=os.cpu_count() or 1)
    if index.plan.kind is not item_index.IndexKind.FLAT:
        index.save(folder / INDEX_FILE)
    tokens = json.loads((base.path / ITEM_NAMES).read_bytes())["tokens"]
    known = safetensors.numpy.load_file(base.path / ITEM_ARRAYS)
    near = random.integers(0, items, (items, NEIGHBOURS), dtype=np.int32)
    weights = np.full((items, NEIGHBOURS), 0.1, np.float16)
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "embeddings": np.array(vectors),
        "popularity": random.pareto(1.2, items).astype(np.float32),
        "lengths": np.ones(items, np.float32),
        "token_vectors": known["token_vectors"],
        "after": near,
        "after_weights": weights,
        "beside": near[::-1].copy(),
        "beside_weights": weights,
    }
    safetensors.numpy.save_file(arrays, folder / ITEM_ARRAYS)
    names = {
        "ids": [f"i-{row}" for row in range(items)],
        "titles": [f"Thing {row}" for row in range(items)],
        "attributes": [{"category": f"c{row % 200}", "price_cents": 999.0} for row in range(items)],
        "tokens": tokens,
    }
    (folder / ITEM_NAMES).write_text(json.dumps(names, separators=(",", ":")))
    (folder / "config.json").write_text(json.dumps({**base.config, "index": index.plan.as_config()}))
    (folder / "embeddings.npy").unlink()
    write_manifest(folder, base.name, f"made-{items}")


class Service:
    """Worker, validate, recent-sink and Redis, on a broker."""

    def __init__(self, bootstrap: str, registry: str, model: Path, items: int, folder: Path) -> None:
        self.bootstrap, self.registry, self.items, self._folder = bootstrap, registry, items, folder
        self.address, self.ids = KafkaAddress(bootstrap=bootstrap), Registry(registry)
        self.redis = redis.start_redis(folder, folder / "redis.log")
        processes.wait_until(lambda: redis.answers(self.redis.address), self.redis, 20)
        self._fill()
        self.env = {
            "MILLRACE_BOOTSTRAP": bootstrap,
            "MILLRACE_REGISTRY": registry,
            "MILLRACE_REDIS": self.redis.address,
            "MILLRACE_MODELS": f"recommendation=file:{model}",
            "PYTHONPATH": str(ROOT),
        }
        self.sink = KafkaSink(self.address, None)
        modules = (
            ("inference_workers", ["--task", "recommendation"]),
            ("processors", ["validate"]),
            ("feature_jobs", ["serve", "recent-sink"]),
        )
        self.started = [self._start(module, words) for module, words in modules]

    def wait_assigned(self) -> None:
        for one in self.started:
            processes.wait_until(lambda one=one: b'"event": "assigned"' in Path(one.log).read_bytes(), one, 180)  # type: ignore[misc]

    def _start(self, module: str, words: list[str]) -> Any:
        command = [sys.executable, "-m", module, *words, "--slot", "0"]
        return processes.start(module, command, self._folder / f"{module}.log", self.env)

    def _fill(self) -> None:
        random, now_ms = np.random.default_rng(5), CLOCK.now_ms()
        store = RedisStore(self.redis.address, 5.0)
        blank = {feature.name: feature.default for feature in USER.features}
        recents, features = dict[str, bytes](), dict[str, bytes]()
        for user in range(USERS):
            events = [(now_ms - 1000 * (EVENTS - at), f"i-{random.integers(self.items)}", "view") for at in range(EVENTS)]
            recents[f"u-{user}"] = pack(RECENT, EntityValues((0, 1), now_ms, None, now_ms, {"events": to_text(events)}))
            features[f"u-{user}"] = pack(USER, EntityValues((0, 1), now_ms, None, now_ms, {**blank, "age": 30, "country": "DE"}))
        store.write(RECENT, recents)
        store.write(USER, features)
        store.close()

    def latencies(self, per_second: float, seconds: float, warm_s: float = WARM_S) -> np.ndarray:
        """In ms, of the requests after the first `warm_s`; missing answers are absent."""
        results = KafkaBroadcast(self.address, RECOMMENDATION_RESULTS.name, CLOCK, "end")
        sender = threading.Thread(target=self._send, args=(per_second, warm_s + seconds))
        sender.start()
        from_ns = time.monotonic_ns() + int(warm_s * 1e9)
        until_ns, found = from_ns + int(seconds * 1e9), list[float]()
        while time.monotonic_ns() < until_ns + int(END_S * 1e9):
            polled = results.wait(0.05)
            now_ns = time.monotonic_ns()
            sent_ns = (int(dict(headers or ())[h.CE_ID].partition(b"-")[0]) for headers in polled.headers)
            found += [(now_ns - at) / 1e6 for at in sent_ns if from_ns < at < until_ns]
        sender.join()
        results.close()
        return np.array(found)

    def _send(self, per_second: float, seconds: float) -> None:
        encoder, random = Encoder.of(RECOMMENDATION_REQUESTS, self.ids), np.random.default_rng(6)
        begun_s, sent = time.monotonic(), 0
        while (passed_s := time.monotonic() - begun_s) < seconds:
            for _ in range(int(passed_s * per_second) - sent):
                user = f"u-{random.integers(USERS)}"
                value = encoder.encode_one(RecommendationRequest(user_id=user))
                headers = h.cloud_event([f"{time.monotonic_ns()}-{sent}"], "recommendation-request", "bench")
                self.sink.produce(OutRecords(RECOMMENDATION_REQUESTS.name, [user.encode()], [value], headers))
                sent += 1
            time.sleep(TICK_S)
        self.sink.flush(30)

    async def changes_s(self, trials: int) -> list[float]:
        """From producing an event to having an answer that leaves its item out, for one user after another."""
        encoder, found = Encoder.of(USER_EVENTS, self.ids), list[float]()
        async with connect(self.bootstrap, self.registry) as client:
            for trial in range(trials):
                fields = {"user_id": f"new-{trial}", "limit": 5}
                await client.request("recommendation", fields)
                event = UserEvent(
                    event_id=uuid7(CLOCK.now_ms()),
                    user_id=f"new-{trial}",
                    kind="view",
                    item_id=f"i-{trial}",
                    event_ms=CLOCK.now_ms(),
                )
                begun_s = time.monotonic()
                out = OutRecords(USER_EVENTS.name, [event.user_id.encode()], [encoder.encode_one(event)], [[]])
                self.sink.produce(out)
                while time.monotonic() - begun_s < TRIAL_LIMIT_S:
                    answer = await client.request("recommendation", fields)
                    if answer["seen"]:
                        break
                    await asyncio.sleep(ASK_EVERY_S)
                found.append(time.monotonic() - begun_s)
        return found

    def close(self) -> None:
        for one in (*self.started, self.redis):
            processes.stop(one)
        self.sink.close()


@contextmanager
def service(base: str, items: int) -> Iterator[Service]:
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as place:
        model, logs = Path(place) / "model", Path(place) / "logs"
        model.mkdir()
        logs.mkdir()
        made_version(open_source(base), items, model)
        with servers() as (bootstrap, registry):
            provision(KafkaAdmin(KafkaAddress(bootstrap=bootstrap)), Registry(registry))
            made = Service(bootstrap, registry, model, items, logs)
            try:
                made.wait_assigned()
                yield made
            finally:
                made.close()


def bench(base: str, items: int, per_second: float, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """base: address of a version whose networks are used."""
    found = []
    with service(base, items) as made:
        cold = made.latencies(per_second, seconds)
        say(f"warming up for {BROKER_WARM_S:g} s")
        runs = [made.latencies(per_second, seconds, WARM_S if number else BROKER_WARM_S) for number in range(rounds)]
        changes = asyncio.run(made.changes_s(TRIALS))
    answered = min(len(run) for run in runs) / (per_second * seconds)
    for q, goal in ((50, None), (99, GOAL_MS)):
        values = sorted(float(np.percentile(run, q)) if len(run) else float("inf") for run in runs)
        middle = values[len(values) // 2]
        met = None if goal is None else middle <= goal and answered > 0.99
        words = "printed" if goal is None else f"at most {goal:g} ms"
        more = {"spread": [round(values[0], 1), round(values[-1], 1)], "answered": round(answered, 4)}
        name = f"latency p{q} through the topics at {per_second:g}/s, {items:,} items"
        found.append(figure(name, middle, "ms", words, met, **more))
        started = float(np.percentile(cold, q)) if len(cold) else float("inf")
        found.append(figure(f"latency p{q}, just after the broker and the worker started", started, "ms", "printed", None))
    p50, p99 = np.percentile(changes, (50, 99))
    name = "from an event to an answer that knows it, p99"
    found.append(
        figure(name, float(p99), "s", f"at most {GOAL_EVENT_S:g} s", bool(p99 <= GOAL_EVENT_S), p50=round(float(p50), 3))
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.benchmarks.recommendation_service", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--model", default="shipped:recommendation")
    parser.add_argument("--items", type=whole(), default=1_000_000)
    parser.add_argument("--rate", type=real(above=True), default=50.0)
    parser.add_argument("--seconds", type=real(above=True), default=20.0)
    parser.add_argument("--rounds", type=whole(), default=3)
    chosen = parser.parse_args()
    load_before = os.getloadavg()[0]
    say(f"{chosen.items} made items")
    report(
        "recommendation service",
        bench(chosen.model, chosen.items, chosen.rate, chosen.seconds, chosen.rounds),
        load_before,
        chosen.json,
    )


if __name__ == "__main__":
    main()
