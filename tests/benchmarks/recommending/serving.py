"""How long both stages take in a worker: embedding, candidates and ranking, on a version with a large made catalogue."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from inference_workers.models.folder import SHIPPED, open_folder, write_manifest
from inference_workers.recommending import item_index
from inference_workers.recommending.item_index import IndexKind
from inference_workers.recommending.recommender import INDEX_FILE, ITEM_ARRAYS, ITEM_NAMES, Recommender, UserHistory
from tests.benchmarks.recommending.index import embeddings
from tests.benchmarks.worker import figure, say

CANDIDATES, EVENTS, NEIGHBOURS = 1000, 100, 64
REQUESTS = 200


def large_version(out: Path, items: int, threads: int = 1) -> None:
    """A version with the networks of the shipped one and `items` made items: embeddings in clusters, neighbours at random."""
    shutil.copytree(SHIPPED / "recommendation", out)
    random = np.random.default_rng(3)
    shipped = safetensors.numpy.load_file(out / ITEM_ARRAYS)
    made, users = embeddings(out / "embeddings.npy", items)
    index = item_index.build(made, users, threads=threads)
    arrays: dict[str, npt.NDArray[Any]] = {
        "embeddings": np.asarray(made),
        "lengths": np.ones(items, np.float32),
        "popularity": (1e6 / np.arange(1, items + 1)).astype(np.float32),
        "token_vectors": shipped["token_vectors"],
        **{name: random.integers(items, size=(items, NEIGHBOURS), dtype=np.int32) for name in ("after", "beside")},
        **{f"{name}_weights": np.full((items, NEIGHBOURS), 0.01, np.float16) for name in ("after", "beside")},
    }
    safetensors.numpy.save_file(arrays, out / ITEM_ARRAYS)
    names = json.loads((out / ITEM_NAMES).read_text())
    categories = sorted({attributes["category"] for attributes in names["attributes"]})
    names |= {
        "ids": [f"i-{row}" for row in range(items)],
        "titles": [f"Item {row}" for row in range(items)],
        "attributes": [{"category": categories[row % len(categories)], "price_cents": 999.0} for row in range(items)],
    }
    (out / ITEM_NAMES).write_text(json.dumps(names, separators=(",", ":")))
    if index.plan.kind is not IndexKind.FLAT:
        index.save(out / INDEX_FILE)
    config = json.loads((out / "config.json").read_text()) | {"index": index.plan.as_config()}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "embeddings.npy").unlink()
    write_manifest(out, "recommendation", f"{items}-items")


def bench(items: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as place:
        large_version(Path(place) / "version", items)
        begun = time.perf_counter()
        recommender = Recommender.load(open_folder(Path(place) / "version"))
        loaded_s = time.perf_counter() - begun
        random, figures = np.random.default_rng(4), list[dict[str, Any]]()
        for users in (1, 8):
            took = _stages_ms(recommender, users, random)
            for stage, values in took.items():
                each = [value / users for value in values]
                name = f"{stage}, {users} at a time, {items:,} items"
                figures.append(
                    figure(name, statistics.median(each), "ms a user", "printed", None, p99=float(np.percentile(each, 99)))
                )
            say(f"  {users} at a time: {statistics.median(took['all stages']) / users:.1f} ms a user")
        return [figure(f"load of a version, {items:,} items", loaded_s, "s", "printed", None), *figures]


def _stages_ms(recommender: Recommender, users: int, random: np.random.Generator) -> dict[str, list[float]]:
    """After a tenth of the requests, which warm it."""
    took: dict[str, list[float]] = {"user tower": [], "candidates": [], "ranker": [], "all stages": []}
    for number in range(REQUESTS // users):
        asked = [_user(recommender, random) for _ in range(users)]
        times = [time.perf_counter()]
        embedded = recommender.embed(asked)
        times.append(time.perf_counter())
        candidates = recommender.candidates(embedded, CANDIDATES, [set(user.items) for user in asked])
        times.append(time.perf_counter())
        recommender.rank(asked, embedded, candidates)
        times.append(time.perf_counter())
        if number >= REQUESTS // users // 10:
            for stage, ms in zip(took, [*np.diff(times) * 1000, (times[-1] - times[0]) * 1000], strict=True):
                took[stage].append(float(ms))
    return took


def _user(recommender: Recommender, random: np.random.Generator) -> UserHistory:
    rows = random.integers(len(recommender.items), size=EVENTS)
    items = [recommender.items.ids[row] for row in rows]
    return UserHistory(items, ["view"] * EVENTS, (np.arange(EVENTS)[::-1] * 60.0).tolist(), {"age": 40.0, "country": "DE"})
