"""A short form of the worker's benchmark: each compared program answers every request, with the same bytes of result."""

from __future__ import annotations

import numpy as np
import pytest

from infra.provision import provision
from schemas.codec import read_any
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.schema_registry import Registry
from tests.benchmarks import processes
from tests.benchmarks.mlp import REQUESTS, RESULTS
from tests.benchmarks.worker import PROGRAMS, fill, run
from tests.benchmarks.worker import servers as bench_servers
from tests.conftest import Servers

pytestmark = pytest.mark.real
COUNT = 2_000


def test_each_program_answers_every_request_alike(servers: Servers) -> None:
    ids = Registry(servers.registry)
    provision(KafkaAdmin(servers.address), ids, [REQUESTS, RESULTS], [])
    fill(servers.bootstrap, servers.registry, COUNT)
    logits = {}
    for number, program in enumerate(PROGRAMS):
        assert run(program, servers.bootstrap, servers.registry, COUNT)["records_s"] > 0
        reader = KafkaBroadcast(servers.address, RESULTS.name, SystemClock())
        polled = reader.read_to_end(20).take(range(number * COUNT, (number + 1) * COUNT))
        reader.close()
        records = [read_any(value, ids) for value in polled.values]
        assert {record["status"] for record in records} == {"ok"}
        request_ids = [record["request_id"] for record in records]
        assert len(set(request_ids)) == COUNT
        logits[program] = np.frombuffer(b"".join(records[i]["logits"] for i in np.argsort(request_ids)), "<f4")
    for program in PROGRAMS:
        np.testing.assert_allclose(logits[program], logits["plain"], rtol=1e-4)


def test_two_workers_share_the_requests() -> None:
    """A short form of `bench processes`."""
    with bench_servers(processes.PARTITIONS) as (bootstrap, registry):
        fill(bootstrap, registry, 20_000)
        with processes.workers(bootstrap, registry, "bench-two", 2, processes.MODELS["1 ms"]):
            assert processes.answered_per_s(bootstrap, "bench-two", 1.0) > 0
