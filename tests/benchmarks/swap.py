"""`./millrace bench swap`: twenty swaps under load. Compares the p99 of the seconds around each swap with the steady p99, and
reports the longest gap between two results."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from inference_workers.models.folder import SHIPPED, write_manifest
from infra.provision import provision
from streams.client import Client, connect
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.process.arguments import real, whole
from streams.schema_registry import Registry
from tests.benchmarks.content import SENTENCES
from tests.benchmarks.tasks import Worker
from tests.benchmarks.worker import QUIET_LOAD, figure, report, say, servers
from training_triggers.versions.compare_and_set import on_kafka
from training_triggers.versions.promotion import announce, find_source

MODEL = "moderation-text"
RATE_PER_S = 100
AROUND_S = 5.0  # before and after each swap
Sample = tuple[float, float, str]  # times of sending and of the answer, and the version that answered


def versions(folder: Path, count: int) -> list[Path]:
    made = []
    for number in range(2, count + 2):
        target = folder / f"v{number}"
        shutil.copytree(SHIPPED / MODEL, target)
        write_manifest(target, MODEL, str(number))
        made.append(target)
    return made


async def load(client: Client, seconds: float, samples: list[Sample]) -> None:
    """Sends RATE_PER_S requests per second, open loop."""

    async def one(i: int) -> None:
        begun = time.perf_counter()
        result = await client.request("moderation", {"content_id": f"c-{i}", "text": SENTENCES[i % 8]}, deadline_ms=30_000)
        assert result["status"] == "ok", result
        samples.append((begun, time.perf_counter(), result["models"][0]["version"]))

    begun, under_way = time.perf_counter(), []
    for i in range(int(seconds * RATE_PER_S)):
        await asyncio.sleep(max(0.0, begun + i / RATE_PER_S - time.perf_counter()))
        under_way.append(asyncio.create_task(one(i)))
    await asyncio.gather(*under_way)


async def run(bootstrap: str, registry: str, folders: list[Path], steady_s: float) -> tuple[list[Sample], list[float]]:
    """All answers, and the time of each swap announcement."""
    samples: list[Sample] = []
    announced: list[float] = []
    log = on_kafka(KafkaAddress(bootstrap=bootstrap), Registry(registry), SystemClock(), "bench")
    async with connect(bootstrap, registry, "bench") as client:
        await load(client, 5.0, [])
        whole_s = steady_s + len(folders) * 2 * AROUND_S
        loading = asyncio.create_task(load(client, whole_s, samples))
        await asyncio.sleep(steady_s)
        for folder in folders:
            await asyncio.sleep(AROUND_S)
            announced.append(time.perf_counter())
            source = find_source(MODEL, str(folder), "")
            await asyncio.to_thread(announce, MODEL, source, "bench", log, SystemClock())
            await asyncio.sleep(max(0.0, AROUND_S - (time.perf_counter() - announced[-1])))
        await loading
    return samples, announced


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--swaps", type=whole(), default=20)
    parser.add_argument("--steady", type=real(above=True), default=30.0, help="seconds before the first swap")
    chosen = parser.parse_args()
    load_before = os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix="millrace-swap-"))
    try:
        with servers() as (bootstrap, registry):
            provision(KafkaAdmin(KafkaAddress(bootstrap=bootstrap)), Registry(registry))
            worker = Worker(bootstrap, registry, "moderation")
            try:
                say(f"{chosen.swaps} swaps of {MODEL} at {RATE_PER_S} requests/s")
                samples, announced = asyncio.run(run(bootstrap, registry, versions(folder, chosen.swaps), chosen.steady))
            finally:
                worker.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report("swap", figures_of(samples, announced, load_before), load_before, chosen.json)


def figures_of(samples: list[Sample], announced: list[float], load_before: float) -> list[dict[str, Any]]:
    samples.sort()
    waits = [(sent, (answered - sent) * 1000) for sent, answered, _ in samples]
    steady = np.percentile([ms for sent, ms in waits if sent < announced[0] - AROUND_S], 99)
    around = [float(np.percentile([ms for sent, ms in waits if abs(sent - at) <= AROUND_S], 99)) for at in announced]
    answered = sorted(at for _, at, _ in samples)
    gap_ms = float(np.max(np.diff(answered))) * 1000
    goal = float(max(2 * steady, steady + 30))
    seen = {version for _, _, version in samples}
    say(
        f"  steady p99 {steady:.1f} ms, worst p99 around a swap {max(around):.1f} ms, {len(samples)} answers by {len(seen)} versions"
    )
    quiet = load_before < QUIET_LOAD
    return [
        figure("steady p99", float(steady), "ms", "printed", None, n=len(waits)),
        figure(
            "worst p99 of the 10 s around a swap",
            max(around),
            "ms",
            f"at most {goal:.1f} ms",
            bool(max(around) <= goal) if quiet else None,
            reference="steady p99",
            reference_value=round(float(steady), 2),
            ratio=round(max(around) / float(steady), 3),
            judged=quiet,
            all=[round(one, 1) for one in around],
        ),
        figure("longest gap between two answers", gap_ms, "ms", "printed", None),
        figure("versions that answered", len(seen), "versions", f"{len(announced) + 1}", len(seen) == len(announced) + 1),
    ]


if __name__ == "__main__":
    main()
