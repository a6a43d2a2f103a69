"""The processes that run Millrace's loops: workers, processors, feature sinks, detectors, views. Each has a keeper that restarts it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from infra import console, declared
from infra.local import feature_servers, kept, processes, run_state
from infra.local.processes import ProcessFailed
from infra.settings import ROOT, StackSettings
from schemas import catalogue
from schemas.chat_topics import CHAT
from schemas.declared.declarations import sink_of
from schemas.errors import BadSettings
from schemas.topics import ACCURACY, ATTRIBUTION, DECIDE, DECISIONS, DRIFT, LAUNCH, POLICY, ROLLOUT, TIMELY, VALIDATE
from streams import local_http
from streams.clock import SystemClock

START_LIMIT_S = 60.0
DECLARED_LIMIT_S = 300.0  # the model of a declared task, and that of chat, may be large, and may have to be downloaded
PROCESSORS = {POLICY.group, DECISIONS.group, TIMELY.group, VALIDATE.group, ATTRIBUTION.group}
TRIGGERS = (DRIFT.group, ACCURACY.group, DECIDE.group, LAUNCH.group, ROLLOUT.group)
RECOMMENDATION = ("recommendation", ATTRIBUTION.group)
TRAINING = ("+".join(TRIGGERS),)
SHOP = "shop"
Wait = Callable[[], object]  # returns when the process is ready; raises ProcessFailed


def process_environment(settings: StackSettings, running: run_state.State) -> dict[str, str]:
    """Environment variables for a process of the stack: addresses of all servers, and its folders."""
    return {
        "MILLRACE_BOOTSTRAP": running.bootstrap,
        "MILLRACE_REGISTRY": running.registry,
        "PYTHONPATH": str(ROOT),
        "MILLRACE_BLOB_ROOTS": settings.blob_root,
        "MILLRACE_MLFLOW": running.mlflow,
        "MILLRACE_REDIS": settings.redis or running.redis,
        "MILLRACE_LAKE": str(settings.lake),
        "MILLRACE_VECTORS": str(settings.vectors_folder),
        "MILLRACE_RUNS_FOLDER": str(settings.home_folder.resolve() / "runs"),
        "MILLRACE_DATA": settings.data,
        catalogue.VARIABLE: os.environ.get(catalogue.VARIABLE) or str(declared.followed(settings)),
    }


def copies(settings: StackSettings, names: str) -> int:
    """How many processes to start for an entry of MILLRACE_PROCESSES or a declared task: only workers are copied."""
    task = catalogue.declaration(names)
    if task is not None:
        return declared.workers(settings, task)
    return settings.workers if names.partition("+")[0].partition(":")[0] in catalogue.catalogue().task_names else 1


def start(settings: StackSettings, running: run_state.State, names: str, slot: int) -> Wait | None:
    """Start one process with its keeper; returns a function that waits until the process holds its partitions. None if it runs
    already.

    names: tasks or processors, joined by +. Raises BadSettings for an unknown name."""
    if names == "views":
        return _start_views(settings, running, slot)
    name = f"{names}-{slot}"
    old = running.find(name)
    if old is not None and old.alive():
        return None
    log = settings.run_folder / "logs" / f"{name}.log"
    offset = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", *_module_and_arguments(names), "--slot", str(slot)]
    started = processes.start_kept(settings.run_folder, name, command, process_environment(settings, running))
    running.put(started)
    run_state.write(settings.run_folder, running)
    loops = run_state.loops_of(name)
    if not declared.owner(names) and names != CHAT.group:
        return lambda: processes.wait_until(lambda: _assigned(log, offset, loops), started, START_LIMIT_S)

    def ready() -> bool:
        if trouble := kept.read(log).trouble(SystemClock().now_ms()):
            raise ProcessFailed(f"{name} {trouble}. {processes.log_tail(log)}")
        return _assigned(log, offset, loops)

    return lambda: processes.wait_until(ready, started, DECLARED_LIMIT_S)


def _start_views(settings: StackSettings, running: run_state.State, slot: int) -> Wait | None:
    """The Faust process of derived views, with its page on a port of its own."""
    name = f"views-{slot}"
    old = running.find(name)
    if old is not None and old.alive():
        return None
    if importlib.util.find_spec("faust") is None:
        raise BadSettings("MILLRACE_PROCESSES names views, but Faust is not installed: `./millrace setup views` installs it")
    port = processes.port_of(old) or processes.free_port()
    page = f"http://127.0.0.1:{port}"
    faust = ["processors.views.faust_views", "worker", "--loglevel", "warn", "--web-port", str(port)]
    environment = {**process_environment(settings, running), "MILLRACE_VIEWS_FOLDER": str(settings.run_folder / name)}
    command = [sys.executable, "-W", "ignore", "-m", *faust]
    started = processes.start_kept(settings.run_folder, name, command, environment, page)
    running.put(started)
    run_state.write(settings.run_folder, running)
    return lambda: processes.wait_until(lambda: local_http.page_answers(f"{page}/strikes/nobody"), started, START_LIMIT_S)


def named(names: str, words: Sequence[str]) -> bool:
    """Whether one of the entries of MILLRACE_PROCESSES runs this already, perhaps beside others."""
    parts = {part.partition(":")[0] for word in words for part in word.split("+")}
    return set(names.split("+")) <= parts


def start_shop(settings: StackSettings, running: run_state.State) -> None:
    """The generated shop: people who look at things and buy them, until the stack stops."""
    old = running.find(SHOP)
    if old is None or not old.alive():
        command = [sys.executable, "-m", "feature_jobs", "shop"]
        running.put(processes.start_kept(settings.run_folder, SHOP, command, process_environment(settings, running)))
        run_state.write(settings.run_folder, running)


def stop_workers(settings: StackSettings, running: run_state.State, tasks: Sequence[str]) -> None:
    """Stop the workers of these tasks, which have processes of their own, and what keeps their vectors."""
    wanted = {name for task in tasks for name in (task, sink_of(task))}
    for process in [process for process in running.processes if process.name.rpartition("-")[0] in wanted]:
        with console.step(f"stop {process.name}"):
            processes.stop(process)
        running.processes.remove(process)
    run_state.write(settings.run_folder, running)


def start_reconcile(settings: StackSettings, running: run_state.State) -> None:
    """The process that updates the registry's aliases from model-updates-v1."""
    old = running.find("reconcile")
    if old is None or not old.alive():
        command = [sys.executable, "-m", "training_triggers", "reconcile"]
        environment = process_environment(settings, running)
        running.put(processes.start_kept(settings.run_folder, "reconcile", command, environment))
        run_state.write(settings.run_folder, running)


def _module_and_arguments(names: str) -> list[str]:
    parts = names.split("+")
    if (task := declared.owner(names)) and names != task:
        return ["inference_workers", "vectors", task]
    if all(part in feature_servers.LOOPS for part in parts):
        return ["feature_jobs", "serve", *parts]
    if all(part.partition(":")[0] in catalogue.catalogue().task_names for part in parts):
        return ["inference_workers", *(word for part in parts for word in ("--task", part))]
    if all(part in TRIGGERS for part in parts):
        return ["training_triggers", "serve", *parts]
    if all(part in PROCESSORS for part in parts):
        return ["processors", *parts]
    raise BadSettings(
        f"MILLRACE_PROCESSES has {names!r}; a process runs tasks ({', '.join(sorted(catalogue.catalogue().task_names))}) or processors "
        f"({', '.join(sorted(PROCESSORS))}), joined by +, or views"
    )


def _assigned(log: Path, offset: int, loops: Sequence[str]) -> bool:
    """Whether each loop has logged its partitions since the offset."""
    with log.open("rb") as file:
        file.seek(offset)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if '"event": "assigned"' in line]
    return all(any(f'"worker": "{loop}"' in line for line in lines) for loop in loops)
