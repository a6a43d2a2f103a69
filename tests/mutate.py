"""`./millrace mutate`: small faults in the loop, one at a time, and whether the tests of streams see them.

A sample that depends on the seed alone. Each mutant runs in a copy of the sources; one that makes the tests hang counts as seen.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from infra.settings import ROOT
from streams.process.arguments import whole
from tests.mutants import Mutant, mutants

LOOP = Path("streams/loop")
MODULES = ("offsets", "release", "pauses", "admit", "batching", "deadletter", "breaker", "trials", "loop", "outbox", "assignment")
# In the order in which most faults are seen soonest.
TESTS = (
    *(f"tests/unit/streams/test_loop{name}.py" for name in ("", "_faults", "_limits", "_together")),
    "tests/property/test_loop_parts.py",
    "tests/unit/streams",
)
NOT_COPIED = shutil.ignore_patterns(".*", "node_modules", "shipped", "docs", "web", "__pycache__")


def main() -> int:
    parser = argparse.ArgumentParser(prog="./millrace mutate", description=__doc__)
    parser.add_argument("--module", action="append", choices=MODULES, help="of streams/loop; all of these if left out")
    parser.add_argument("--sample", type=whole(1), default=60, help="how many mutants")
    parser.add_argument("--seed", type=whole(0), default=1)
    parser.add_argument("--list", action="store_true", help="print the sample, and run nothing")
    parser.add_argument("--json", action="store_true", help="an object for each mutant, and one of the sum")
    chosen = parser.parse_args()
    everything = [mutant for name in chosen.module or MODULES for mutant in mutants(ROOT, LOOP / f"{name}.py")]
    picked = sorted(random.Random(chosen.seed).sample(range(len(everything)), min(chosen.sample, len(everything))))
    sample = [everything[index] for index in picked]
    if chosen.list:
        print(*sample, sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return _run(Path(folder) / "copy", sample, len(everything), chosen.json)


def _run(copy: Path, sample: list[Mutant], population: int, as_json: bool) -> int:
    """0, whatever survives; 1 where the tests fail without a mutant, or do not see a module that cannot be imported."""
    shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
    begun = time.perf_counter()
    if not _passes(copy, limit_s=600):
        print("the tests fail as the sources are: there is nothing to measure", file=sys.stderr)
        return 1
    limit_s = 3 * (time.perf_counter() - begun) + 30
    if _passes_with(copy, sample[0].path, "raise ImportError('not the copy')", limit_s):
        print("the tests do not run the copy", file=sys.stderr)
        return 1
    survivors = []
    for number, mutant in enumerate(sample, 1):
        survives = _passes_with(copy, mutant.path, mutant.source, limit_s)
        survivors += [mutant] if survives else []
        if as_json:
            print(json.dumps({**asdict(mutant), "path": str(mutant.path), "source": None, "survives": survives}), flush=True)
        elif survives:
            print(f"survives ({number} of {len(sample)})  {mutant}", flush=True)
    seen = len(sample) - len(survivors)
    if as_json:
        print(json.dumps({"mutants": len(sample), "of": population, "seen": seen, "score": seen / len(sample)}))
    else:
        print(f"{seen} of {len(sample)} mutants are seen ({seen / len(sample):.0%}), of {population} that there are")
    return 0


def _passes_with(copy: Path, path: Path, source: str, limit_s: float) -> bool:
    kept = (copy / path).read_text()
    (copy / path).write_text(source)
    try:
        return _passes(copy, limit_s)
    finally:
        (copy / path).write_text(kept)


def _passes(copy: Path, limit_s: float) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", *TESTS]
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command, cwd=copy, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as run:
        try:
            return run.wait(limit_s) == 0
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, 9)  # with the children that its tests started
            return False


if __name__ == "__main__":
    sys.exit(main())
