"""What the index takes: build time, memory, recall and search time at millions of made embeddings, which lie in clusters."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from inference_workers.recommending import item_index
from inference_workers.recommending.item_index import IndexKind, ItemIndex
from tests.benchmarks.worker import figure, say

WIDTH, A_CLUSTER = 64, 500
SEARCHES, LIMIT = 200, 1000
GOAL_RECALL = 0.95
FAR_ITEMS = 100_000_000
Floats = npt.NDArray[np.float32]


def embeddings(file: Path, items: int, seed: int = 0) -> tuple[npt.NDArray[np.float16], Floats]:
    """float16 (items, WIDTH) in a mapped file, as a version has them; and users near items, float32 (SEARCHES, WIDTH)."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(20, items // A_CLUSTER), WIDTH)).astype(np.float32)
    made = np.lib.format.open_memmap(file, "w+", np.float16, (items, WIDTH))
    for start in range(0, items, 250_000):
        n = min(250_000, items - start)
        part = _unit(centres[random.integers(len(centres), size=n)] + 0.7 * random.normal(size=(n, WIDTH)).astype(np.float32))
        made[start : start + n] = part
    near = made[random.integers(items, size=SEARCHES)].astype(np.float32)
    return made, _unit(near + 0.05 * random.normal(size=near.shape).astype(np.float32))


def _unit(vectors: Floats) -> Floats:
    made: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made


def bench(items: int, kind: IndexKind | None) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as place:
        made, users = embeddings(Path(place) / "embeddings.npy", items)
        before, begun = psutil.Process().memory_info().rss, time.perf_counter()
        index = item_index.build(made, users, kind, threads=os.cpu_count() or 1)
        build_s, grown = time.perf_counter() - begun, psutil.Process().memory_info().rss - before
        plan = index.plan
        say(f"  {items} items: {plan}, built in {build_s:.0f} s")
        file = Path(place) / "items.faiss"
        index.save(file)
        del index
        opened, opens_ms = _opened(None if plan.kind is IndexKind.FLAT else file, plan, made)
        searches_ms = _searches_ms(opened, users)
        size = file.stat().st_size
    name = f"{plan.kind} of {items:,} items"
    figures = [
        figure(f"build, {name}", build_s, "s", "printed", None, effort=plan.effort, rerank=plan.rerank),
        figure(f"memory while it is built, {name}", grown / 1e6, "MB", "printed", None),
        figure(f"file, {name}", size / 1e6, "MB", "printed", None, bytes_an_item=size / items),
        figure(f"open, mapped, {name}", opens_ms, "ms", "printed", None),
        figure(f"recall@1000, {name}", plan.recall, "", f"at least {GOAL_RECALL}", plan.recall >= GOAL_RECALL),
        figure(
            f"search of 1000, median, {name}",
            statistics.median(searches_ms),
            "ms",
            "printed",
            None,
            p99=float(np.percentile(searches_ms, 99)),
        ),
    ]
    return figures + (_far(size, items, plan, build_s) if plan.kind is IndexKind.IVF_PQ else [])


def _opened(file: Path | None, plan: item_index.IndexPlan, made: npt.NDArray[np.float16]) -> tuple[ItemIndex, float]:
    begun = time.perf_counter()
    return item_index.load(file, plan, made), 1000 * (time.perf_counter() - begun)


def _searches_ms(index: ItemIndex, users: Floats) -> list[float]:
    """One user at a time, one thread, after a first round that brings the pages into memory."""
    took = []
    for round_ in range(2):
        for user in users:
            begun = time.perf_counter()
            index.search(user[None], LIMIT)
            if round_:
                took.append(1000 * (time.perf_counter() - begun))
    return took


def _far(size: int, items: int, plan: item_index.IndexPlan, build_s: float) -> list[dict[str, Any]]:
    """Arithmetic for 100 million: codes and ids grow with the items, cells with the root of their number."""
    cells, ours = (item_index.cells_for(plan.kind, n) for n in (FAR_ITEMS, items))
    each = WIDTH // 4 + 8
    codes, coarse = FAR_ITEMS * each, cells * WIDTH * 4
    expected = items * each + ours * WIDTH * 4
    return [
        figure(
            "bytes of this index by arithmetic",
            expected / 1e6,
            "MB",
            "printed",
            None,
            reference="measured",
            reference_value=size / 1e6,
            ratio=expected / size,
        ),
        figure("index of 100 M items, by arithmetic", (codes + coarse) / 1e9, "GB", "printed", None, cells=cells),
        figure("embeddings of 100 M items, mapped", FAR_ITEMS * WIDTH * 2 / 1e9, "GB", "printed", None),
        figure(
            "codes that a search of 100 M scans", FAR_ITEMS / cells * plan.effort, "", "printed", None, cells_searched=plan.effort
        ),
        figure("build of 100 M items, by arithmetic", build_s * FAR_ITEMS / items * cells / ours / 3600, "h", "printed", None),
    ]
