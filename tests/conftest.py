"""Real servers, started once for a whole session, in a temporary folder, on free ports; stopped by pid."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from infra.local import apicurio, kafka, processes
from infra.local.started import Started
from infra.provision import provision
from infra.settings import StackSettings
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.process.settings import load
from streams.process.shell import configure_logging
from streams.schema_registry import Registry
from tests.support.properties import pytest_runtest_call as pytest_runtest_call

# A machine that does much else is slow, and that is no test's failure.
settings.register_profile("millrace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("millrace")


@dataclass
class Servers:
    bootstrap: str
    registry: str
    folder: Path
    jars: Path
    kafka_process: Started
    registry_process: Started

    @property
    def address(self) -> KafkaAddress:
        return KafkaAddress(bootstrap=self.bootstrap)

    def restart_kafka(self, *, kill: bool) -> None:
        """The same broker again: same data, same port."""
        if kill:
            os.kill(self.kafka_process.pid, 9)
        processes.stop(self.kafka_process)
        port = int(self.bootstrap.rpartition(":")[2])
        self.kafka_process = kafka.start_kafka(self.folder / "kafka", self.jars, self.folder / "kafka.log", port)
        processes.wait_until(lambda: kafka.answers(self.bootstrap), self.kafka_process, kafka.START_LIMIT_S)


def pytest_collection_finish() -> None:
    """What was imported stays: the collector need not look at it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Clients that a test left in cycles of references still run, with some five threads each, and ask the broker ten times a second."""
    if {"servers", "own_servers"} & set(getattr(item, "fixturenames", ())) or item.get_closest_marker("real"):
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def logging() -> None:
    configure_logging(json_lines=True)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    yield from start_servers()


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Servers]:
    """For tests that write what nobody should: on the shared servers the tests after them would read it."""
    yield from start_servers()


def start_servers() -> Iterator[Servers]:
    """A broker and a registry with everything of the catalogue. `./millrace test` has fetched what this needs."""
    jars = load(StackSettings, os.environ).jars
    folder = Path(tempfile.mkdtemp(prefix="millrace-test-"))
    started: list[Started] = []
    try:
        started.append(apicurio.start_registry(folder / "registry", jars, folder / "registry.log"))
        started.append(kafka.start_kafka(folder / "kafka", jars, folder / "kafka.log"))
        processes.wait_until(lambda: kafka.answers(started[1].address), started[1], kafka.START_LIMIT_S)
        processes.wait_until(lambda: apicurio.answers(started[0].address), started[0], apicurio.START_LIMIT_S)
        made = Servers(started[1].address, started[0].address, folder, jars, started[1], started[0])
        provision(KafkaAdmin(made.address), Registry(made.registry))
        try:
            yield made
        finally:
            started[1] = made.kafka_process
    finally:
        for process in reversed(started):
            processes.stop(process)
        shutil.rmtree(folder, ignore_errors=True)
