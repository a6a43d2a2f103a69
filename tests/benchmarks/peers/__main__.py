"""Runs the compared programs in turn and prints their figures. Exits with 1 if a program could not be run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from infra.settings import ROOT, StackSettings
from schemas import avro
from schemas.errors import MillraceError
from streams import headers as h
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin, TopicSpec
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.process.arguments import whole
from streams.process.settings import load
from streams.schema_registry import Registry
from tests.benchmarks.mlp import REQUESTS, RESULTS
from tests.benchmarks.peers import json_requests
from tests.benchmarks.peers.chart import chart
from tests.benchmarks.peers.compared import COMPARED, Program
from tests.benchmarks.peers.environments import connector, interpreter
from tests.benchmarks.peers.goals import figures_of
from tests.benchmarks.peers.measured import Setting, measure
from tests.benchmarks.worker import fill, report, say, servers

CHART = ROOT / "docs" / "benchmarks" / "peers.svg"
BEYOND = 1.3  # requests in the topic, as a multiple of those that count: no program meets the end of the topic
READ_LIMIT_S = 120.0
TRIM_LIMIT_S = 30.0


def main() -> None:
    chosen = _arguments()
    load_before = os.getloadavg()[0]
    settings = load(StackSettings, os.environ)
    programs = [one for one in COMPARED if chosen.only is None or one.name in chosen.only]
    pythons, failed = _interpreters(settings, programs)
    programs = [one for one in programs if one.environment in pythons]
    counts = {one.name: min(one.count, chosen.count) for one in programs}
    runs: dict[str, list[dict[str, Any]]] = {}
    if programs:
        with servers() as (bootstrap, registry):
            setting = _filled(bootstrap, registry, counts, settings)
            runs = _rounds(programs, pythons, setting, counts, chosen.rounds, failed)
    figures = figures_of(runs, failed, counts)
    report("peers", figures, load_before, chosen.json)
    if chosen.svg is not None and runs:
        chosen.svg.parent.mkdir(parents=True, exist_ok=True)
        chosen.svg.write_text(chart(figures))
    for name, reason in failed.items():
        say(f"not run: {name}: {reason}")
    sys.exit(1 if failed else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./millrace bench peers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=whole(), default=3)
    parser.add_argument("--count", type=whole(), default=10**6, help="requests of a round, at most")
    parser.add_argument("--only", action="append", choices=[one.name for one in COMPARED], help="may be repeated")
    parser.add_argument(
        "--svg", type=Path, nargs="?", const=CHART, help=f"write the chart, to {CHART.relative_to(ROOT)} by default"
    )
    return parser.parse_args()


def _interpreters(settings: StackSettings, programs: Sequence[Program]) -> tuple[dict[str, str], dict[str, str]]:
    """The interpreter of each environment, and the reason of each program whose environment could not be made."""
    pythons: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for name in dict.fromkeys(one.environment for one in programs):
        try:
            pythons[name] = interpreter(settings, name)
        except MillraceError as error:
            reasons[name] = str(error)
    return pythons, {one.name: reasons[one.environment] for one in programs if one.environment in reasons}


def _filled(bootstrap: str, registry: str, counts: dict[str, int], settings: StackSettings) -> Setting:
    admin = KafkaAdmin(KafkaAddress(bootstrap=bootstrap))
    admin.create([TopicSpec(name, 1, {}) for name in (json_requests.REQUESTS, json_requests.RESULTS)])
    requests = int(max(counts.values()) * BEYOND) + 1000
    say(f"{requests} requests into the topic")
    fill(bootstrap, registry, requests)
    ids = _request_ids(bootstrap)
    schema = Registry(registry).id_of(RESULTS.subject, avro.schema("tensor-result"))
    return Setting(bootstrap, registry, schema, ids, str(connector(settings)))


def _request_ids(bootstrap: str) -> list[str]:
    """Ids of all requests, in the order of the topic."""
    reader = KafkaBroadcast(KafkaAddress(bootstrap=bootstrap), REQUESTS.name, SystemClock())
    ids: list[str] = []
    until_s = SystemClock().monotonic_s() + READ_LIMIT_S
    try:
        while not reader.at_end() and SystemClock().monotonic_s() < until_s:
            ids += [dict(headers or ())[h.CE_ID].decode() for headers in reader.wait(0.2).headers]
    finally:
        reader.close()
    return ids


def _rounds(
    programs: Sequence[Program], pythons: dict[str, str], setting: Setting, counts: dict[str, int], n: int, failed: dict[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Each program n times, in turn, in reversed order every second round. A program that fails is not run again, and is put into
    `failed`."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for number in range(n):
        for program in programs if number % 2 == 0 else reversed(programs):
            if program.name in failed:
                continue
            try:
                one = measure(program, pythons[program.environment], setting, counts[program.name])
            except MillraceError as error:
                failed[program.name] = str(error)
                say(f"  round {number + 1}  {program.name:<24}failed: {error}")
                continue
            finally:
                _trim(setting.bootstrap, RESULTS.name)
            runs.setdefault(program.name, []).append(one)
            say(
                f"  round {number + 1}  {program.name:<24}{one['records_s']:>9.0f} records/s {one['cpu_us']:>8.1f} µs CPU a record  "
                f"{one['seconds']:>5.1f} s  lost {one['lost']}, doubled {one['doubled']}  load before {one['load_before']:.2f}"
            )
    return {name: found for name, found in runs.items() if name not in failed}


def _trim(bootstrap: str, topic: str) -> None:
    """Delete the results that were counted: those of all rounds would fill several GB."""
    end = KafkaAdmin(KafkaAddress(bootstrap=bootstrap)).ends([(topic, 0)])[topic, 0]
    client = AdminClient({"bootstrap.servers": bootstrap})
    for future in client.delete_records([TopicPartition(topic, 0, end)]).values():
        future.result(TRIM_LIMIT_S)


if __name__ == "__main__":
    main()
