"""The stack as child processes: broker, registry, workers. `up` starts what is missing, `down` stops what we started."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from infra import console
from infra.local import jars, kafka, processes, registry, state
from infra.local.processes import Started
from infra.provision import Provisioned, provision
from infra.settings import ROOT, StackSettings
from schemas.errors import BrokerUnavailable
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.registry import Registry

WORKER_LIMIT_S = 60.0


def fetch(settings: StackSettings) -> None:
    """Download Kafka and the registry, if they are not there. Raises DownloadFailed."""
    wanted = [] if settings.bootstrap and settings.registry else jars.missing(settings.jars)
    if not wanted:
        return
    total = sum(jar.bytes for jar in wanted)
    with (
        console.step(f"Kafka and registry, {total / 1e6:.0f} MB from Maven Central"),
        console.download("download", total) as progress,
    ):
        jars.fetch(settings.jars, progress)


def servers(settings: StackSettings, running: state.State) -> None:
    """Broker and registry, started side by side or taken from the settings; `running` and its file are kept current."""
    run = settings.run_folder
    old_kafka, old_registry = running.find("kafka"), running.find("registry")
    if not settings.bootstrap and (old_kafka is None or not old_kafka.alive()):
        _replace(running, kafka.start_kafka(run / "kafka", settings.jars, run / "logs" / "kafka.log", _port(old_kafka)))
    if not settings.registry and (old_registry is None or not old_registry.alive()):
        started = registry.start_registry(run / "registry", settings.jars, run / "logs" / "registry.log", _port(old_registry))
        _replace(running, started)
    running.bootstrap = settings.bootstrap or _address(running, "kafka")
    running.registry = settings.registry or _address(running, "registry")
    state.write(run, running)
    with ThreadPoolExecutor(2) as pool:
        waits = [
            pool.submit(
                _wait, running.find("kafka"), running.bootstrap, kafka.answers, kafka.START_LIMIT_S, "MILLRACE_BOOTSTRAP"
            ),
            pool.submit(
                _wait, running.find("registry"), running.registry, registry.answers, registry.START_LIMIT_S, "MILLRACE_REGISTRY"
            ),
        ]
        with console.step("Kafka broker") as remark:
            waits[0].result()
            remark(running.bootstrap)
        with console.step("schema registry") as remark:
            waits[1].result()
            remark(running.registry)


def _wait(found: Started | None, address: str, answers: Callable[[str], bool], limit_s: float, variable: str) -> None:
    """Our own process gets time to start; a server of somebody else's must answer now."""
    if found is not None and found.address == address:
        processes.wait_until(lambda: answers(address), found, limit_s)
    elif not answers(address):
        raise BrokerUnavailable(f"nothing answers at {address}, which {variable} names")


def _port(old: Started | None) -> int | None:
    """The port of last time if it is still free, so that addresses survive a restart."""
    if old is None:
        return None
    port = int(old.address.split("://")[-1].split("/")[0].rpartition(":")[2])
    return port if processes.is_free(port) else None


def _replace(running: state.State, started: Started) -> None:
    running.processes = [process for process in running.processes if process.name != started.name] + [started]


def _address(running: state.State, name: str) -> str:
    found = running.find(name)
    assert found is not None
    return found.address


def topics(running: state.State) -> Provisioned:
    with console.step("topics and schemas") as remark:
        done = provision(KafkaAdmin(KafkaAddress(bootstrap=running.bootstrap)), Registry(running.registry))
        remark(f"{len(done.created_topics)} topics made, {len(done.registered)} schemas registered")
    return done


def worker(settings: StackSettings, running: state.State, task: str, slot: int, env: Mapping[str, str] | None = None) -> None:
    """Start one kept worker and wait until it holds its partitions."""
    name = f"{task}-{slot}"
    old = running.find(name)
    if old is not None and old.alive():
        return
    log = settings.run_folder / "logs" / f"{name}.log"
    offset = log.stat().st_size if log.exists() else 0
    with console.step(f"{task} worker {slot}"):
        command = [sys.executable, "-m", "infra.local.keeper", name]
        command += [sys.executable, "-m", "inference_workers", "--task", task, "--slot", str(slot)]
        where = {"MILLRACE_BOOTSTRAP": running.bootstrap, "MILLRACE_REGISTRY": running.registry, "PYTHONPATH": str(ROOT)}
        started = processes.start(name, command, log, {**where, **(env or {})})
        _replace(running, started)
        state.write(settings.run_folder, running)
        processes.wait_until(lambda: _assigned(log, offset), started, WORKER_LIMIT_S)


def _assigned(log: Path, offset: int) -> bool:
    with log.open("rb") as file:
        file.seek(offset)
        return b'"event": "assigned"' in file.read()


def up(settings: StackSettings) -> state.State:
    fetch(settings)
    running = state.read(settings.run_folder)
    servers(settings, running)
    topics(running)
    for slot in range(settings.workers):
        worker(settings, running, "moderation", slot)
    return running


def down(settings: StackSettings) -> list[str]:
    """Stop what we started, workers first. The names of what was stopped. Data stays."""
    running = state.read(settings.run_folder)
    stopped = [process.name for process in running.processes if process.alive()]
    for process in reversed(running.processes):
        processes.stop(process)
    # names and addresses are kept, so that `up` finds the same ports again
    return stopped


def clean(settings: StackSettings) -> None:
    """Stop the stack and remove everything that set-up and the stack wrote."""
    down(settings)
    shutil.rmtree(settings.home_folder, ignore_errors=True)
