"""`python -m feature_jobs.jobs NAME --cluster HOST:PORT --bootstrap … --registry … --checkpoints DIR`: submits a job and prints
its id."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from feature_jobs.flink.ddl import Addresses
from feature_jobs.jobs.job import submit


def main() -> None:
    parser = argparse.ArgumentParser(prog="feature_jobs.jobs")
    parser.add_argument("name")
    parser.add_argument("--cluster", required=True, help="host:port of the cluster's REST server")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--registry", required=True)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--interval-ms", type=int, default=5_000)
    parser.add_argument("--parallelism", type=int, default=2)
    chosen = parser.parse_args()
    job = importlib.import_module(f"feature_jobs.jobs.{chosen.name}")
    plan = job.plan(Addresses(chosen.bootstrap, chosen.registry))
    print(submit(job.NAME, plan, chosen.cluster, chosen.checkpoints, chosen.interval_ms, chosen.parallelism), flush=True)


if __name__ == "__main__":
    main()
