"""`./millrace bench features`: events through the Flink job, freshness online, the sink, online reads, training sets."""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from feature_jobs.offline.feast_store import feature_store, names_of
from feature_jobs.offline.lake import schema
from feature_jobs.offline.training_set import join
from feature_jobs.traffic.event_sources import Sender
from infra.cli.feature_lag import lag
from processors.features.feature_blob import EntityValues, Freshness, pack, unpack
from processors.features.online_store import RedisStore
from schemas.codec import Decoder, Encoder
from schemas.durations import DAY_MS
from schemas.features import TILE_MS, USER
from schemas.generated import UserEvent
from schemas.topics import ITEM_SINK, USER_EVENTS, USER_EVENTS_VALID, USER_FEATURES, USER_SINK
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.sink import KafkaSink
from streams.process.arguments import real, whole
from streams.rows import OutRecords, Polled
from tests.benchmarks.worker import QUIET_LOAD, figure, report, say
from tests.support.stack import Stack

SINKS = ("user-sink-0", "item-sink-0")
BESIDE = ("archive-0", "recent-sink-0", "validate+timely-0")
FRESHNESS_PER_S = 2_000
WARM_S = 20.0  # the job, the loops and their JVMs are cold just after the stack has started
QUIET_S, START_LIMIT_S = 6.0, 90.0
KINDS = ("view", "cart", "purchase", "rating")


def fill(stack: Stack, count: int, seed: int) -> None:
    """Writes validated events of 10,000 people and 2,000 items over the last five minutes directly to the topic that Flink
    reads."""
    random, now_ms = np.random.default_rng(seed), int(time.time() * 1000)
    encoder = Encoder.of(USER_EVENTS_VALID, stack.registry)
    sink = KafkaSink(stack.address, None)
    for at in range(0, count, 20_000):
        n = min(20_000, count - at)
        kinds = [KINDS[i] for i in random.integers(0, 4, n)]
        users = [f"b{seed}-{i}" for i in random.integers(0, 10_000, n)]
        values = encoder.encode(
            {
                "event_id": [f"{seed}-{at + i}" for i in range(n)],
                "user_id": users,
                "kind": kinds,
                "item_id": [f"b-{i}" for i in random.zipf(1.3, n) % 2_000],
                "session_id": [f"s-{user}" for user in users],
                "quantity": np.ones(n, np.int64),
                "amount_cents": [999 if kind == "purchase" else None for kind in kinds],
                "rating": [4 if kind == "rating" else None for kind in kinds],
                "event_ms": now_ms - random.integers(0, TILE_MS, n),
            },
            n,
        )
        sink.produce(OutRecords(USER_EVENTS_VALID.name, [user.encode() for user in users], list(values), [[]] * n))
    sink.flush(60)
    sink.close()


def through_the_job(stack: Stack, count: int, seed: int) -> dict[str, float]:
    """Events per second that reach the tiles, from the first tile to the last by the broker's times. The task manager is
    killed first, and the topic is filled while it restarts, so that nothing else runs when the job begins."""
    reader = KafkaBroadcast(stack.address, USER_FEATURES.name, SystemClock(), "end")
    stack.kill("taskmanager")
    fill(stack, count, seed)
    polled: list[Polled] = []
    moved_s = time.monotonic()
    while time.monotonic() - moved_s < (QUIET_S if polled else START_LIMIT_S):  # nothing is decoded meanwhile
        part = reader.wait(0.5)
        if len(part):
            polled.append(part)
            moved_s = time.monotonic()
    reader.close()
    decoder, newest, total, rows, marks = Decoder("user-tile", stack.registry), dict[str, int](), 0, 0, list[tuple[int, int]]()
    for part in polled:
        rows += len(part)
        for tile, stamp in zip(decoder.decode(part.values)[0].records(), part.timestamps_ms, strict=True):
            key = f"{tile['user_id']} {tile['tile_start_ms']} {tile['item_id']}"
            if tile["user_id"].startswith(f"b{seed}-") and tile["n"] > newest.get(key, 0):
                total += tile["n"] - newest.get(key, 0)
                newest[key] = tile["n"]
                marks.append((stamp, total))
    if total < count:
        raise SystemExit(f"{total} of {count} events reached the tiles, and nothing came for {QUIET_S} s")
    (begun_ms, first), (ended_ms, last) = marks[0], marks[-1]
    return {"events_s": (last - first) / max(1e-3, (ended_ms - begun_ms) / 1000), "rows": rows}


@contextmanager
def stopped(stack: Stack, names: Sequence[str]) -> Iterator[None]:
    for name in names:
        stack.signal(name, signal.SIGSTOP)
    try:
        yield
    finally:
        for name in names:
            stack.signal(name, signal.SIGCONT)


def job(stack: Stack, count: int, n: int) -> list[dict[str, Any]]:
    say(f"events through the SQL job (users and items), {count} events a round, sinks and validate stopped")
    found = []
    for number in range(n):
        found.append(through_the_job(stack, count, number))
        say(
            f"  round {number + 1}  {found[-1]['events_s']:>9.0f} events/s, {found[-1]['rows']:.0f} user tiles  load {os.getloadavg()[0]:.2f}"
        )
    rates = sorted(one["events_s"] for one in found)
    middle = rates[len(rates) // 2]
    return [
        figure(
            "events through the SQL job",
            middle,
            "events/s",
            "aim 60000",
            middle >= 60_000,
            spread=[round(rates[0]), round(rates[-1])],
        )
    ]


def sink(stack: Stack) -> list[dict[str, Any]]:
    """The sinks, which go on as this begins, process the output of the earlier rounds: rows per second until nothing is behind."""

    def behind() -> int:
        return sum(lag(stack.address, c.group, c.topic) or 0 for c in (USER_SINK, ITEM_SINK))

    begun, first = time.monotonic(), behind()
    while (left := behind()) and time.monotonic() - begun < 180:
        time.sleep(0.5)
    rate = (first - left) / (time.monotonic() - begun)
    say(f"sinks: {first} tiles behind, {rate:.0f} tiles/s")
    return [figure("tiles through the sinks", rate, "tiles/s", "aim 20000", rate >= 20_000 and left == 0, tiles=first, left=left)]


def freshness(stack: Stack, seconds: float, load_before: float) -> list[dict[str, Any]]:
    """From sending an event on user-events-v1 to reading its count online: one probe user every 50 ms, among other traffic."""
    say(f"freshness at {FRESHNESS_PER_S} events/s, {seconds:.0f} s")
    store, waits, waiting, stop = RedisStore(stack.redis, 5.0), list[float](), dict[str, float](), threading.Event()
    seen_ms: dict[str, int] = {}

    def look() -> None:
        while not stop.is_set() or waiting:
            names = list(waiting)
            served = unpack(USER, store.read(USER, names), ["events_5m"], int(time.time() * 1000), 5_000)
            now = time.perf_counter()
            for row, name in enumerate(names):
                if served.state[row] == Freshness.FRESH and served.values["events_5m"][row]:
                    waits.append(now - waiting.pop(name))
                    seen_ms[name] = int(time.time() * 1000)
            if stop.is_set() and now - stopped_s[0] > 30:
                return
            time.sleep(0.003)

    stopped_s, random = [0.0], np.random.default_rng(1)
    reader = threading.Thread(target=look)
    reader.start()
    kafka = KafkaSink(stack.address, None)
    sender, run = Sender(kafka, stack.registry, SystemClock(), "bench"), int(time.time())
    begun, each_s = time.perf_counter(), 0.05
    for tick in range(int((seconds + WARM_S) / each_s)):
        time.sleep(max(0.0, begun + tick * each_s - time.perf_counter()))
        now_ms, probe = int(time.time() * 1000), f"p-{run}-{tick}"
        users = [f"f-{i}" for i in random.integers(0, 5_000, int(FRESHNESS_PER_S * each_s) - 1)]
        events = [
            UserEvent(event_id=f"{run}-{tick}-{i}", user_id=user, kind="view", item_id=f"b-{i % 500}", event_ms=now_ms)
            for i, user in enumerate([*users, probe])
        ]
        if tick * each_s > WARM_S:
            waiting[probe] = time.perf_counter()
        sender.send(USER_EVENTS, events, "user_id")
    sender.flush()
    say(f"  behind at the end: {stack.lag()}")
    stopped_s[0] = time.perf_counter()
    stop.set()
    reader.join()
    kafka.close()
    p50, p99 = (float(np.percentile(waits, q)) * 1000 for q in (50, 99))
    say(f"  p50 {p50:.0f} ms  p99 {p99:.0f} ms  n {len(waits)}  never seen {len(waiting)}")
    hops(stack, f"p-{run}-", seen_ms)
    closing50, closing99 = closing(store, list(seen_ms))
    quiet = load_before < QUIET_LOAD
    return [
        figure("event to value online, p50", p50, "ms", "printed", None, n=len(waits), never_seen=len(waiting)),
        figure("event to value online, p99", p99, "ms", "at most 1000", p99 <= 1000 and not waiting, judged=quiet),
        figure("end of a window to its final value online, p50", closing50, "ms", "printed", None),
        figure("end of a window to its final value online, p99", closing99, "ms", "printed", None),
    ]


def closing(store: RedisStore, probes: list[str]) -> tuple[float, float]:
    """p50 and p99 in ms from the end of the five minutes to the value without the events: all users of the run leave the
    window together."""
    end_ms = (int(time.time() * 1000) // TILE_MS + 1) * TILE_MS
    say(f"  the window of all {FRESHNESS_PER_S} events/s ends in {end_ms / 1000 - time.time():.0f} s")
    time.sleep(max(0.0, end_ms / 1000 - time.time()))
    left, waits = list(probes), list[float]()
    while left and time.time() * 1000 < end_ms + 60_000:
        served = unpack(USER, store.read(USER, left), ["events_5m"], int(time.time() * 1000), 60_000)
        gone = [row for row in range(len(left)) if not served.values["events_5m"][row]]
        waits += [time.time() * 1000 - end_ms] * len(gone)
        left = [name for row, name in enumerate(left) if row not in set(gone)]
        time.sleep(0.003)
    if left:
        raise SystemExit(f"{len(left)} of {len(probes)} users kept their count a minute past the window's end")
    p50, p99 = (float(np.percentile(waits, q)) for q in (50, 99))
    say(f"  final values: p50 {p50:.0f} ms  p99 {p99:.0f} ms past the end")
    return p50, p99


def hops(stack: Stack, probes: str, seen_ms: dict[str, int]) -> None:
    """The time spent in each step: between the broker's times of the records of each probe."""
    times: dict[str, list[int]] = {name: [] for name in seen_ms}
    for topic in (USER_EVENTS.name, USER_EVENTS_VALID.name, USER_FEATURES.name):
        reader = KafkaBroadcast(stack.address, topic, SystemClock())
        polled = reader.read_to_end(60)
        reader.close()
        for key, at_ms in zip(polled.keys, polled.timestamps_ms, strict=True):
            name = (key or b"").decode()
            if name.startswith(probes) and name in times:
                times[name].append(at_ms)
    whole = np.array([[*found, seen_ms[name]] for name, found in times.items() if len(found) == 3])
    for number, hop in enumerate(("validate", "Flink: tiles", "sink and read")):
        took = np.diff(whole, axis=1)[:, number]
        say(f"    {hop:<14} p50 {np.percentile(took, 50):.0f} ms  p99 {np.percentile(took, 99):.0f} ms")


def reads(stack: Stack) -> list[dict[str, Any]]:
    """All 50 features of 1, 10 and 100 entities: one MGET and unpacking, compared with Feast's own read of the same blobs."""
    store, feast, now_ms = RedisStore(stack.redis, 5.0), feature_store(stack.lake, stack.redis), int(time.time() * 1000)
    values = {f.name: f.default for f in USER.features}
    store.write(USER, {f"r-{i}": pack(USER, EntityValues((1, now_ms), now_ms, None, now_ms, values)) for i in range(2_000)})
    names, wanted, made = [f.name for f in USER.features], names_of([USER]), []
    for n in (1, 10, 100):

        def ours(ids: list[str]) -> None:
            unpack(USER, store.read(USER, ids), names, int(time.time() * 1000), 2_000)

        def theirs(ids: list[str]) -> None:
            feast.get_online_features(features=wanted, entity_rows=[{"user_id": one} for one in ids]).to_dict()

        mine, other = _times(ours, n, 1_000), _times(theirs, n, 60)
        p50, p99 = (float(np.percentile(mine, q)) for q in (50, 99))
        say(
            f"read of {n:>3} entities: p50 {p50:.2f} ms  p99 {p99:.2f} ms; Feast p50 {np.percentile(other, 50):.1f} ms  p99 {np.percentile(other, 99):.1f} ms"
        )
        made.append(
            figure(
                f"online read of {n} entities, p99",
                p99,
                "ms",
                "at most 2.5" if n == 100 else "printed",
                p99 <= 2.5 if n == 100 else None,
                p50=round(p50, 3),
                reference="Feast get_online_features, same blobs",
                reference_value=round(float(np.percentile(other, 99)), 2),
                ratio=round(p99 / float(np.percentile(other, 99)), 3),
            )
        )
    return made


def _times(call: Callable[[list[str]], None], n: int, rounds: int) -> list[float]:
    random, took = np.random.default_rng(2), []
    for number in range(rounds + 20):
        ids = [f"r-{i}" for i in random.integers(0, 2_000, n)]
        begun = time.perf_counter()
        call(ids)
        if number >= 20:
            took.append((time.perf_counter() - begun) * 1000)
    return took


def training(folder: Path, labels: int, rows: int) -> list[dict[str, Any]]:
    say(f"training set: {labels} labels, {rows} rows of history, 50 features")
    random, start_ms = np.random.default_rng(3), int(time.time() * 1000) - 30 * DAY_MS
    users = np.char.add("u-", random.integers(0, 20_000, rows).astype(str))
    columns: dict[str, Any] = {f.name: [f.default] * rows for f in USER.features}
    columns |= {"user_id": users, "event_timestamp": (start_ms + random.integers(0, 30 * DAY_MS, rows)) * 1000}
    (folder / USER.name).mkdir(parents=True)
    pq.write_table(pa.table(columns, schema=schema(USER)), folder / USER.name / "all.parquet")
    frame = pd.DataFrame(
        {
            "user_id": np.char.add("u-", random.integers(0, 20_000, labels).astype(str)),
            "event_timestamp": pd.to_datetime(start_ms + random.integers(0, 30 * DAY_MS, labels), unit="ms", utc=True),
        }
    )
    begun = time.perf_counter()
    found = join(frame, folder, "redis://127.0.0.1:1/0", [USER.name])
    took_s = time.perf_counter() - begun
    say(f"  {took_s:.1f} s, {len(found)} rows")
    return [figure(f"training set of {labels} labels x {rows} rows", took_s, "s", "printed", None, rows=len(found))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=whole(), default=1_000_000)
    parser.add_argument("--rounds", type=whole(), default=3)
    parser.add_argument("--seconds", type=real(above=True), default=20.0)
    parser.add_argument("--only", choices=["freshness", "reads", "job"])
    chosen = parser.parse_args()
    load_before, figures = os.getloadavg()[0], list[dict[str, Any]]()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-", ignore_cleanup_errors=True) as folder:
        stack = Stack(Path(folder))
        try:
            up = stack.run("up", "--with", "features")
            if up.returncode != 0:
                raise SystemExit(up.stdout + up.stderr)
            stack.connect()
            if chosen.only in (None, "freshness"):
                figures += freshness(stack, chosen.seconds, load_before)
            if chosen.only in (None, "reads"):
                figures += reads(stack)
            if chosen.only in (None, "job"):
                with stopped(stack, BESIDE):  # they read the same events
                    with stopped(stack, SINKS):
                        figures += job(stack, chosen.count, chosen.rounds)
                    figures += sink(stack)
        finally:
            stack.run("down")
        if chosen.only is None:
            figures += training(Path(folder) / "history", 100_000, 1_000_000)
    report("features", figures, load_before, chosen.json)


if __name__ == "__main__":
    main()
