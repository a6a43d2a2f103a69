"""`./millrace bench recommendation`: ranking of MovieLens 100k beside other methods, the index at 1 and 5 million items,
and at the first of these sizes both stages, and the task through its topics.

`--data` names the folder with MovieLens 100k. `--seeds` N trainings; `--items` lists sizes of the index.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from inference_workers.recommending.item_index import IndexKind
from streams.process.arguments import whole
from tests.benchmarks import recommendation_service
from tests.benchmarks.recommending import index, ranking, serving
from tests.benchmarks.worker import report, say


def main() -> None:
    parser = argparse.ArgumentParser(prog="./millrace bench recommendation", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=["ranking", "index", "serving", "service"])
    parser.add_argument("--data", type=Path, help="folder of MovieLens 100k; default: movielens_100k in MILLRACE_DATA")
    parser.add_argument("--seeds", type=whole(), default=5)
    parser.add_argument("--items", type=whole(), nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--kind", choices=[str(kind) for kind in IndexKind], help="of the index; default: by size")
    chosen = parser.parse_args()
    load_before, figures = os.getloadavg()[0], list[dict[str, Any]]()
    if chosen.only in (None, "ranking"):
        data = chosen.data or Path(os.environ.get("MILLRACE_DATA", "")) / "movielens_100k"
        say(f"ranking of {data}")
        figures += ranking.bench(data, list(range(chosen.seeds)))
    if chosen.only in (None, "index"):
        for items in chosen.items:
            say(f"index of {items} items")
            figures += index.bench(items, IndexKind(chosen.kind) if chosen.kind else None)
    if chosen.only in (None, "serving"):
        say(f"both stages at {chosen.items[0]} items")
        figures += serving.bench(chosen.items[0])
    if chosen.only in (None, "service"):
        say(f"the task through its topics at {chosen.items[0]} items")
        figures += recommendation_service.bench(
            "shipped:recommendation", chosen.items[0], per_second=50.0, seconds=20.0, rounds=3
        )
    report("recommendation", figures, load_before, chosen.json)


if __name__ == "__main__":
    main()
