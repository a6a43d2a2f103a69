"""What `up --with features` starts besides: Redis, a Flink cluster, the sinks, and the process that keeps the Flink jobs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from infra import console
from infra.local import flink, processes, redis, run_state, tls
from infra.local.java import java_env
from infra.local.started import Started
from infra.settings import StackSettings
from schemas.topics import ARCHIVE, ITEM_SINK, USER_SINK

LOOPS = (USER_SINK.group, ITEM_SINK.group, ARCHIVE.group)
JOBS = ("tiles", "outcomes")
JOBS_LIMIT_S = 120.0


def servers(settings: StackSettings, running: run_state.State) -> None:
    """Redis and the cluster, or the Redis that the settings name. All of it is kept: what dies is started again."""
    run = settings.run_folder
    old = running.find("redis")
    if settings.redis is not None:
        running.redis = settings.redis
    elif old is None or not old.alive():
        port = processes.port_of(old) or processes.free_port()
        running.put(_kept(settings, "redis", redis.command(run / "redis", port), {}, f"redis://127.0.0.1:{port}/0"))
    old = running.find("jobmanager")
    if old is None or not old.alive():
        folder = run / "flink"
        address = flink.prepare(settings.home_folder, settings.jars, folder, tls.keys(run), processes.port_of(old))
        for name, command in (("jobmanager", flink.jobmanager(folder)), ("taskmanager", flink.taskmanager(folder))):
            known = running.find(name)
            if known is not None:
                processes.stop(known)
            running.put(_kept(settings, name, command, java_env(), address if name == "jobmanager" else ""))
    started, jobmanager = running.find("redis"), running.find("jobmanager")
    if settings.redis is None and started is not None:
        running.redis = started.address
    run_state.write(run, running)
    with console.step("Redis") as remark:
        if started is not None and settings.redis is None:
            processes.wait_until(lambda: redis.answers(running.redis), started, redis.START_LIMIT_S)
        remark(running.redis)
    assert jobmanager is not None
    with console.step("Flink cluster") as remark:
        processes.wait_until(lambda: flink.answers(jobmanager.address, tls.keys(run)), jobmanager, flink.START_LIMIT_S)
        remark(jobmanager.address)


def jobs(settings: StackSettings, running: run_state.State, env: Mapping[str, str]) -> None:
    """The supervisor of Flink jobs, and a wait until each runs."""
    jobmanager, old = running.find("jobmanager"), running.find("flink-jobs")
    assert jobmanager is not None
    if old is None or not old.alive():
        folder = settings.run_folder / "flink"
        python, submitting = flink.submitter(settings.home_folder, folder)
        command = [
            sys.executable, "-m", "feature_jobs", "supervise", *JOBS, "--cluster", jobmanager.address, "--python", python,
            "--checkpoints", str((folder / "checkpoints").resolve()), "--tls", str(tls.keys(settings.run_folder).folder),
        ]  # fmt: skip
        running.put(_kept(settings, "flink-jobs", command, {**submitting, **env}, ""))
        run_state.write(settings.run_folder, running)
    supervisor = running.find("flink-jobs")
    assert supervisor is not None
    for name in JOBS:
        with console.step(f"Flink job {name}"):
            processes.wait_until(lambda name=name: runs(settings, jobmanager.address, name), supervisor, JOBS_LIMIT_S)  # type: ignore[misc]


def runs(settings: StackSettings, cluster: str, name: str) -> bool:
    """Whether every task of the job runs."""
    found = processes.json_of(f"{cluster}/jobs/overview", tls.context_of(settings.run_folder)) or {"jobs": []}
    return any(
        job["name"] == name and job["state"] == "RUNNING" and job["tasks"]["running"] == job["tasks"]["total"]
        for job in found["jobs"]
    )


def _kept(settings: StackSettings, name: str, command: Sequence[str], env: Mapping[str, str], address: str) -> Started:
    keeper = [sys.executable, "-m", "infra.local.keeper", name, *command]
    return processes.start(name, keeper, settings.run_folder / "logs" / f"{name}.log", env, address)
