"""The compared programs: guarantee, number of requests of a round, environment and command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.local.processes import free_port
from tests.benchmarks.commands import runner
from tests.benchmarks.peers.programs.answers import Job

AT_MOST_ONCE, AT_LEAST_ONCE, EXACTLY_ONCE = GUARANTEES = ("at-most-once", "at-least-once", "exactly-once")
PROGRAMS = "tests.benchmarks.peers.programs"
FOR_EVER = 10**9  # records: a program runs until it is stopped
BATCH_WAIT_S = 0.05  # of MLServer's adaptive batching

Commands = Callable[[str, Job], list[list[str]]]  # of an interpreter and a job; the last is the program, the others prepare it


@dataclass(frozen=True)
class Program:
    """count: requests of a round, at most, chosen for 10 to 20 s. environment: of `environments.py`, empty for our own.
    json_topic: reads a topic of its own, from its end."""

    name: str
    title: str
    guarantee: str
    count: int
    environment: str
    commands: Commands
    json_topic: bool = False


def _of_runners(which: str, count: int) -> Commands:
    def commands(python: str, job: Job) -> list[list[str]]:
        return [runner(which, job.bootstrap, job.registry, job.group, count=count, delivery=job.guarantee, python=python)]

    return commands


def _module(name: str, *arguments: str) -> Commands:
    return lambda python, job: [[python, "-m", f"{PROGRAMS}.{name}", *arguments]]


def _bytewax(python: str, job: Job) -> list[list[str]]:
    """With a recovery store and a snapshot every 30 s, as in its documentation."""
    recovery = [python, "-m", "bytewax.recovery", job.folder, "1"]
    return [recovery, [python, "-m", "bytewax.run", f"{PROGRAMS}.bytewax_flow", "-r", job.folder, "-s", "30", "-b", "0"]]


def _mlserver(max_batch: int) -> Commands:
    """Settings as files in the job's folder. Inference in the server's own process, as its documentation advises for light models."""

    def commands(python: str, job: Job) -> list[list[str]]:
        ports = {f"{name}_port": free_port() for name in ("http", "grpc", "metrics")}
        kafka = {"kafka_enabled": True, "kafka_servers": job.bootstrap}
        topics = {"kafka_topic_input": job.requests, "kafka_topic_output": job.results}
        server = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, **ports, **kafka, **topics}
        model: dict[str, object] = {"name": "mlp", "implementation": f"{PROGRAMS}.mlserver_network.Network"}
        if max_batch > 1:
            model |= {"max_batch_size": max_batch, "max_batch_time": BATCH_WAIT_S}
        (Path(job.folder) / "settings.json").write_text(json.dumps(server))
        (Path(job.folder) / "model-settings.json").write_text(json.dumps(model))
        return [[str(Path(python).with_name("mlserver")), "start", job.folder]]

    return commands


MILLRACE = {AT_LEAST_ONCE: "millrace", EXACTLY_ONCE: "millrace-exactly-once"}
_FAUST_WORKER = ("worker", "--loglevel", "warn", "--without-web")
COMPARED = (
    Program("mlserver", "MLServer, adaptive batching", AT_MOST_ONCE, 12_000, "mlserver", _mlserver(256), json_topic=True),
    Program("mlserver-single", "MLServer, no batching", AT_MOST_ONCE, 12_000, "mlserver", _mlserver(1), json_topic=True),
    Program(MILLRACE[AT_LEAST_ONCE], "Millrace", AT_LEAST_ONCE, 600_000, "", _of_runners("ours", 0)),
    Program("bare-loop", "confluent-kafka loop", AT_LEAST_ONCE, 600_000, "", _module("bare_loop")),
    Program("bytewax", "Bytewax", AT_LEAST_ONCE, 600_000, "bytewax", _bytewax),
    Program("flink", "PyFlink, vectorised", AT_LEAST_ONCE, 200_000, "flink", _module("flink_table")),
    Program("quix-batches", "Quix Streams, its clients", AT_LEAST_ONCE, 600_000, "quix", _module("quix_batches")),
    Program("quix", "Quix Streams", AT_LEAST_ONCE, 240_000, "quix", _module("quix_rows")),
    Program("faust", "Faust", AT_LEAST_ONCE, 50_000, "faust", _module("faust_take", *_FAUST_WORKER)),
    Program(MILLRACE[EXACTLY_ONCE], "Millrace", EXACTLY_ONCE, 600_000, "", _of_runners("ours", 0)),
    Program("bare-loop-exactly-once", "confluent-kafka loop", EXACTLY_ONCE, 600_000, "", _of_runners("plain", FOR_EVER)),
    Program("flink-exactly-once", "PyFlink, vectorised", EXACTLY_ONCE, 200_000, "flink", _module("flink_table")),
    Program("quix-exactly-once", "Quix Streams", EXACTLY_ONCE, 240_000, "quix", _module("quix_rows")),
)
