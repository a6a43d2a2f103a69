"""`./millrace bench processes`: 1, 2 and 4 workers of one group, with a model of about 0.1 and of about 1 ms a record.

The reference is as many processes that run the model alone, at the same time: where it bends too, the cores are used up.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.settings import ROOT
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.process.arguments import real, whole
from tests.benchmarks import svg
from tests.benchmarks.commands import runner
from tests.benchmarks.mlp import REQUESTS
from tests.benchmarks.svg import Line, Point, lines
from tests.benchmarks.worker import figure, fill, middle, report, say, servers

PARTITIONS = 4
WORKERS = (1, 2, 4)
MODELS = {"0.1 ms": 18, "1 ms": 180}  # middle layers of the network
JOIN_LIMIT_S = 60.0
STEADY_S = 3.0  # after the last worker got its partitions


@contextmanager
def workers(bootstrap: str, registry: str, group: str, n: int, heavy: int) -> Iterator[None]:
    """n workers, each with partitions. They compute on one thread each."""
    commands = [runner("ours", bootstrap, registry, group, heavy=heavy, slot=slot) for slot in range(n)]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) for command in commands]
    try:
        until_s, admin = time.monotonic() + JOIN_LIMIT_S, AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
        while _with_partitions(admin, group) < n:
            if time.monotonic() > until_s or any(process.poll() is not None for process in started):
                raise SystemExit(f"{n} workers have not joined in {JOIN_LIMIT_S:.0f} s")
            time.sleep(0.2)
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


def _with_partitions(admin: AdminClient, group: str) -> int:
    try:
        described = admin.describe_consumer_groups([group])[group].result(20)
    except KafkaException:  # its coordinator is starting
        return 0
    return sum(bool(member.assignment.topic_partitions) for member in described.members)


def answered_per_s(bootstrap: str, group: str, seconds: float) -> float:
    """Committed requests per second."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    places = [TopicPartition(REQUESTS.name, number) for number in range(PARTITIONS)]

    def committed() -> tuple[float, int]:
        positions = consumer.committed(places, timeout=20)
        return time.monotonic(), sum(max(0, position.offset) for position in positions)

    try:
        time.sleep(STEADY_S)
        began_s, before = committed()
        time.sleep(seconds)
        ended_s, after = committed()
    finally:
        consumer.close()
    left = sum(KafkaAdmin(KafkaAddress(bootstrap=bootstrap)).ends([(REQUESTS.name, n) for n in range(PARTITIONS)]).values())
    if after >= left * 0.99:
        raise SystemExit("there are too few requests: the workers came to the end of the topic")
    return (after - before) / (ended_s - began_s)


def alone_per_s(n: int, heavy: int) -> float:
    """Records per second of n processes that run the model alone."""
    started = [subprocess.Popen(runner("raw", heavy=heavy), cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(n)]
    return sum(float(json.loads(process.communicate(timeout=60)[0].splitlines()[-1])["records_s"]) for process in started)


def measure(bootstrap: str, registry: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    kinds = [(model, n) for model in MODELS for n in WORKERS]
    ours: dict[tuple[str, int], list[dict[str, float]]] = {kind: [] for kind in kinds}
    alone: dict[tuple[str, int], list[dict[str, float]]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        for model, n in kinds if number % 2 == 0 else reversed(kinds):
            group = f"bench-processes-{time.time_ns()}"
            with workers(bootstrap, registry, group, n, MODELS[model]):
                ours[model, n].append({"records_s": answered_per_s(bootstrap, group, seconds)})
            alone[model, n].append({"records_s": alone_per_s(n, MODELS[model])})
            rate, reference = ours[model, n][-1]["records_s"], alone[model, n][-1]["records_s"]
            say(f"  round {number + 1}  {model:<7}{n} workers {rate:>8,.0f}/s  the model alone {reference:>8,.0f}/s")
    return [_figure(model, n, ours[model, n], alone[model, n]) for model, n in kinds]


def _figure(model: str, n: int, ours: list[dict[str, float]], alone: list[dict[str, float]]) -> dict[str, Any]:
    return figure(
        f"{n} worker{'s' if n > 1 else ''}, a model of {model}",
        middle(ours),
        "records/s",
        "printed",
        None,
        workers=n,
        model=model,
        spread=[min(one["records_s"] for one in ours), max(one["records_s"] for one in ours)],
        reference="as many processes that run the model alone",
        reference_value=round(middle(alone), 1),
        ratio=round(middle(ours) / middle(alone), 3),
    )


def chart(figures: Sequence[dict[str, Any]]) -> str:
    drawn = []
    for model in MODELS:
        of_model = [one for one in figures if one["model"] == model]
        points = [Point(one["workers"], one["value"], *one["spread"]) for one in of_model]
        alone = [Point(one["workers"], one["reference_value"]) for one in of_model]
        drawn += [Line(f"Millrace, {model}", points, ours=True), Line(f"model alone, {model}", alone)]
    return lines("Records per second by number of worker processes", "worker processes", drawn)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./millrace bench processes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=whole(), default=500_000)
    parser.add_argument("--rounds", type=whole(), default=3)
    parser.add_argument("--seconds", type=real(above=True), default=8.0)
    svg.add_option(parser, "processes")
    chosen = parser.parse_args()
    load_before = os.getloadavg()[0]
    with servers(PARTITIONS) as (bootstrap, registry):
        fill(bootstrap, registry, chosen.count)
        figures = measure(bootstrap, registry, chosen.rounds, chosen.seconds)
    report("processes", figures, load_before, chosen.json)
    if chosen.svg is not None:
        svg.write(chosen.svg, chart(figures))


if __name__ == "__main__":
    main()
