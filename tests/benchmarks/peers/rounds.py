"""All programs, round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.errors import MillraceError
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from tests.benchmarks.mlp import RESULTS
from tests.benchmarks.peers.compared import Program
from tests.benchmarks.peers.filled import Filled
from tests.benchmarks.peers.measured import measure
from tests.benchmarks.worker import say

TRIM_LIMIT_S = 30.0


@dataclass(frozen=True)
class Plan:
    """pythons: interpreter by environment. counts: requests of a round by program. connector: archive of Flink's connector."""

    programs: Sequence[Program]
    pythons: Mapping[str, str]
    counts: Mapping[str, int]
    rounds: int
    connector: Path


@dataclass
class Outcome:
    """runs: figures of each round, by program. failed: the reason of each program that was not run to its end."""

    runs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def fail(self, program: Program, reason: str) -> None:
        self.failed[program.name] = reason
        self.runs.pop(program.name, None)


def run_rounds(plan: Plan, filled: Filled, outcome: Outcome) -> None:
    """Each program once per round, in turn, in reversed order every second round. A program that fails is not run again."""
    for number in range(plan.rounds):
        for program in plan.programs if number % 2 == 0 else reversed(plan.programs):
            if program.name in outcome.failed:
                continue
            count = plan.counts[program.name]
            try:
                one = measure(program, plan.pythons[program.environment], filled, plan.connector, count)
            except MillraceError as error:
                outcome.fail(program, str(error))
                say(f"  round {number + 1}  {program.name:<24}failed")
                continue
            finally:
                _trim(filled.bootstrap, RESULTS.name)
            outcome.runs.setdefault(program.name, []).append(one)
            say(f"  round {number + 1}  {program.name:<24}{_line(one)} of {count}  load before {one['load_before']:.2f}")


def _line(one: Mapping[str, Any]) -> str:
    rates = f"{one['records_s']:>9.0f} records/s {one['cpu_us']:>8.1f} µs CPU a record {one['seconds']:>6.1f} s"
    return f"{rates}  lost {one['lost']}, doubled {one['doubled']}"


def _trim(bootstrap: str, topic: str) -> None:
    """Delete the results that were counted: those of all rounds would fill several GB."""
    end = KafkaAdmin(KafkaAddress(bootstrap=bootstrap)).ends([(topic, 0)])[topic, 0]
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
    for future in client.delete_records([TopicPartition(topic, 0, end)]).values():
        future.result(TRIM_LIMIT_S)
