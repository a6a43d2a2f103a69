"""The stack as child processes: broker, registry, workers. `up` starts what is missing, `down` stops what we started."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from infra import console
from infra.local import apicurio, connect, feature_servers, flink, home, jars, kafka, mlflow, processes, run_state, tls, web
from infra.local.started import Started, of_folder, strays
from infra.provision import Provisioned, provision
from infra.settings import ROOT, StackSettings
from schemas.errors import BadSettings, BrokerUnavailable
from schemas.topics import ACCURACY, DECIDE, DECISIONS, DRIFT, LAUNCH, POLICY, ROLLOUT, TASKS, TIMELY, VALIDATE
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry

WORKER_LIMIT_S = 60.0
STOP_LIMIT_S = 15.0
TRIGGERS = (DRIFT.group, ACCURACY.group, DECIDE.group, LAUNCH.group, ROLLOUT.group)


def fetch(settings: StackSettings, *, with_features: bool = False, with_connect: bool = False) -> None:
    """Download Kafka and the registry, Flink and Kafka Connect where they are wanted, if they are not there. Raises DownloadFailed."""
    components = () if settings.bootstrap and settings.registry else jars.STACK
    if with_features:
        components = (*components, "flink")
    if with_connect:
        components = (*components, "connect")
    wanted = jars.missing(settings.jars, components)
    if wanted:
        total = sum(jar.bytes for jar in wanted)
        with (
            console.step(f"{' and '.join(components)}, {total / 1e6:.0f} MB from Maven Central"),
            console.download("download", total) as progress,
        ):
            jars.fetch(settings.jars, progress, components)
    if with_features and not flink.is_there(settings.home_folder):
        with console.step("Flink's environment, about 300 MB of packages"):
            flink.make_environment(settings.home_folder)
    web.make(settings)


def servers(settings: StackSettings, running: run_state.State) -> None:
    """Broker and registry, started side by side or taken from the settings; `running` and its file are kept current."""
    run = settings.run_folder
    old_kafka, old_registry = running.find("kafka"), running.find("registry")
    if not settings.bootstrap and (old_kafka is None or not old_kafka.alive()):
        running.put(kafka.start_kafka(run / "kafka", settings.jars, run / "logs" / "kafka.log", processes.port_of(old_kafka)))
    if not settings.registry and (old_registry is None or not old_registry.alive()):
        started = apicurio.start_registry(
            run / "registry", settings.jars, run / "logs" / "registry.log", processes.port_of(old_registry)
        )
        running.put(started)
    running.bootstrap = settings.bootstrap or _address(running, "kafka")
    running.registry = settings.registry or _address(running, "registry")
    run_state.write(run, running)
    with ThreadPoolExecutor(2) as pool:
        waits = [
            pool.submit(
                _wait, running.find("kafka"), running.bootstrap, kafka.answers, kafka.START_LIMIT_S, "MILLRACE_BOOTSTRAP"
            ),
            pool.submit(
                _wait, running.find("registry"), running.registry, apicurio.answers, apicurio.START_LIMIT_S, "MILLRACE_REGISTRY"
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


def _address(running: run_state.State, name: str) -> str:
    found = running.find(name)
    assert found is not None
    return found.address


def topics(running: run_state.State) -> Provisioned:
    with console.step("topics and schemas") as remark:
        done = provision(KafkaAdmin(KafkaAddress(bootstrap=running.bootstrap)), Registry(running.registry))
        remark(f"{len(done.created_topics)} topics made, {len(done.registered)} schemas registered")
    for difference in done.differences:
        console.err.print(f"  [yellow]![/] {console.escape(difference)}")
    return done


def process(settings: StackSettings, running: run_state.State, names: str, slot: int) -> Callable[[], None] | None:
    """Start one kept process; a function that waits until it holds its partitions. None where it runs already.

    names: tasks or processors, joined by +. Raises BadSettings for one that there is not."""
    if names == "views":
        return _views(settings, running, slot)
    name = f"{names}-{slot}"
    old = running.find(name)
    if old is not None and old.alive():
        return None
    log = settings.run_folder / "logs" / f"{name}.log"
    offset = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "infra.local.keeper", name, sys.executable, "-m", *_arguments(names), "--slot", str(slot)]
    started = processes.start(name, command, log, process_environment(settings, running))
    running.put(started)
    run_state.write(settings.run_folder, running)
    loops = run_state.loops_of(name)

    def wait() -> None:
        processes.wait_until(lambda: _assigned(log, offset, loops), started, WORKER_LIMIT_S)

    return wait


def _mlflow(settings: StackSettings, running: run_state.State) -> None:
    """The model registry, where one is wanted, and the process that keeps its aliases right."""
    if settings.mlflow is None:
        return
    if settings.mlflow != "local":
        running.mlflow = settings.mlflow
        run_state.write(settings.run_folder, running)
        return
    run, old = settings.run_folder, running.find("mlflow")
    with console.step("MLflow") as remark:
        if old is None or not old.alive():
            running.put(mlflow.start_mlflow(run / "mlflow", run / "logs" / "mlflow.log", processes.port_of(old)))
        running.mlflow = _address(running, "mlflow")
        run_state.write(run, running)
        started = running.find("mlflow")
        assert started is not None
        processes.wait_until(lambda: mlflow.answers(running.mlflow), started, mlflow.START_LIMIT_S)
        remark(running.mlflow)
    keeper = running.find("reconcile")
    if keeper is None or not keeper.alive():
        command = [
            sys.executable,
            "-m",
            "infra.local.keeper",
            "reconcile",
            sys.executable,
            "-m",
            "training_triggers",
            "reconcile",
        ]
        running.put(processes.start("reconcile", command, run / "logs" / "reconcile.log", process_environment(settings, running)))
        run_state.write(run, running)


def process_environment(settings: StackSettings, running: run_state.State) -> dict[str, str]:
    """What a process of ours is told of the others."""
    return {
        "MILLRACE_BOOTSTRAP": running.bootstrap, "MILLRACE_REGISTRY": running.registry, "PYTHONPATH": str(ROOT),
        "MILLRACE_BLOB_ROOTS": settings.blob_root, "MILLRACE_MLFLOW": running.mlflow,
        "MILLRACE_REDIS": settings.redis or running.redis, "MILLRACE_LAKE": str(settings.lake),
        "MILLRACE_RUNS": str(settings.home_folder.resolve() / "runs"), "MILLRACE_DATA": settings.data,
    }  # fmt: skip


def _views(settings: StackSettings, running: run_state.State, slot: int) -> Callable[[], None] | None:
    """The Faust process of derived views, with its page on a port of its own."""
    name = f"views-{slot}"
    old = running.find(name)
    if old is not None and old.alive():
        return None
    if importlib.util.find_spec("faust") is None:
        raise BadSettings("MILLRACE_PROCESSES names views and faust is not here: `./millrace setup views` fetches it")
    port = (None if old is None else processes.port_of(old)) or processes.free_port()
    page, folder = f"http://127.0.0.1:{port}", settings.run_folder / name
    faust = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "processors.views.faust_views",
        "worker",
        "--loglevel",
        "warn",
        "--web-port",
        str(port),
    ]
    command = [sys.executable, "-m", "infra.local.keeper", name, *faust]
    env = {**process_environment(settings, running), "MILLRACE_VIEWS_FOLDER": str(folder)}
    started = processes.start(name, command, settings.run_folder / "logs" / f"{name}.log", env, page)
    running.put(started)
    run_state.write(settings.run_folder, running)

    def wait() -> None:
        processes.wait_until(lambda: processes.page_answers(f"{page}/strikes/nobody"), started, WORKER_LIMIT_S)

    return wait


def _arguments(names: str) -> list[str]:
    parts = names.split("+")
    tasks, processors = {taken.group for taken in TASKS}, {POLICY.group, DECISIONS.group, TIMELY.group, VALIDATE.group}
    if all(part in feature_servers.LOOPS for part in parts):
        return ["feature_jobs", "serve", *parts]
    if all(part.partition(":")[0] in tasks for part in parts):
        return ["inference_workers", *(word for part in parts for word in ("--task", part))]
    if all(part in TRIGGERS for part in parts):
        return ["training_triggers", "serve", *parts]
    if all(part in processors for part in parts):
        return ["processors", *parts]
    raise BadSettings(
        f"MILLRACE_PROCESSES has {names!r}; a process runs tasks ({', '.join(sorted(tasks))}) or processors "
        f"({', '.join(sorted(processors))}), joined by +, or views"
    )


def _assigned(log: Path, offset: int, loops: Sequence[str]) -> bool:
    with log.open("rb") as file:
        file.seek(offset)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if '"event": "assigned"' in line]
    return all(any(f'"worker": "{loop}"' in line for line in lines) for loop in loops)


def up(
    settings: StackSettings, *, with_features: bool = False, with_training: bool = False, with_connect: bool = False
) -> run_state.State:
    """Start what is not up: servers side by side, then all processes side by side. One at a time on a home: a second waits."""
    home.mark(settings.home_folder)
    with run_state.locked(settings.run_folder):
        fetch(settings, with_features=with_features, with_connect=with_connect)
        return _up(settings, with_features, with_training, with_connect)


def _up(settings: StackSettings, with_features: bool, with_training: bool, with_connect: bool) -> run_state.State:
    running = run_state.read(settings.run_folder)
    if left := _stop_strays(settings, running):
        console.out.print(f"  stopped what a killed keeper had left: {', '.join(left)}")
    servers(settings, running)
    topics(running)
    _mlflow(settings, running)
    waits = []
    wanted = settings.processes.split()
    if with_features:
        feature_servers.servers(settings, running)
        wanted += [f"{VALIDATE.group}+{TIMELY.group}", "+".join(feature_servers.LOOPS)]
    if with_training:
        wanted.append("+".join(TRIGGERS))
    for names in wanted:
        copies = settings.workers if names.partition("+")[0].partition(":")[0] in {taken.group for taken in TASKS} else 1
        waits += [(names, slot, process(settings, running, names, slot)) for slot in range(copies)]
    for names, slot, wait in waits:
        if wait is not None:
            with console.step(f"{names.replace('+', ', ')} {slot}" if slot else names.replace("+", ", ")):
                wait()
    if with_features:
        feature_servers.jobs(settings, running, process_environment(settings, running))
    if with_connect:
        _connect(settings, running)
    if settings.monitor:
        monitor(settings, running)
    return running


def _connect(settings: StackSettings, running: run_state.State) -> None:
    run, old = settings.run_folder, running.find("connect")
    keys = tls.keys(run)
    with console.step("Kafka Connect") as remark:
        if old is None or not old.alive():
            port, log = processes.port_of(old), run / "logs" / "connect.log"
            running.put(connect.start_connect(run / "connect", settings.jars, log, running.bootstrap, keys, port))
            run_state.write(run, running)
        started = running.find("connect")
        assert started is not None
        processes.wait_until(lambda: connect.answers(started.address, keys), started, connect.START_LIMIT_S)
        remark(started.address)


def monitor(settings: StackSettings, running: run_state.State) -> Started:
    """Raises BadSettings where its packages are missing, ProcessFailed where it does not come up."""
    with console.step("monitor") as remark:
        started = web.start(settings, running, {**process_environment(settings, running), "MILLRACE_HOME": settings.home})
        web.wait(started)
        remark(started.address)
    return started


def _stop_strays(settings: StackSettings, running: run_state.State) -> list[str]:
    """What runs from this home and nobody keeps any more: two of a group would run, one perhaps of old code. Their names."""
    names = sorted(set(strays(settings.run_folder, running.processes).values()))
    if names:
        processes.stop_all(lambda: strays(settings.run_folder, running.processes), STOP_LIMIT_S)
    return names


def down(settings: StackSettings) -> list[str]:
    """Stop what we started, the last first, and what a killed keeper left. The names of what was stopped. Data stays.

    Raises StateUnreadable, when all that runs is stopped all the same."""
    run = settings.run_folder
    if not run.exists():
        return []
    with run_state.locked(run):
        try:
            running = run_state.read(run)
        except run_state.StateUnreadable:
            processes.stop_all(lambda: of_folder(run), STOP_LIMIT_S)
            raise
        stopped = [process.name for process in running.processes if process.alive()] + _stop_strays(settings, running)
        for process in reversed(running.processes):
            processes.stop(process)
        # names and addresses are kept, so that `up` finds the same ports again
        return list(dict.fromkeys(stopped))
