"""The servers and jobs of `up --with features`: Redis, a Flink cluster, and the process that keeps the Flink jobs running."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from infra import console
from infra.local import flink, processes, redis, run_state, tls
from infra.local.java import java_env
from infra.settings import StackSettings
from schemas.topics import ARCHIVE, ITEM_SINK, RECENT_SINK, USER_SINK
from streams import local_http

LOOPS = (USER_SINK.group, ITEM_SINK.group, RECENT_SINK.group, ARCHIVE.group)  # in a process each: none waits for another's work
JOBS = ("tiles", "outcomes")
JOBS_LIMIT_S = 120.0


def servers(settings: StackSettings, running: run_state.State) -> None:
    """Redis (or the one in the settings) and the Flink cluster, under keepers that restart them; returns when both answer."""
    run = settings.run_folder
    old = running.find("redis")
    if settings.redis is not None:
        running.redis = settings.redis
    elif old is None or not old.alive():
        port = processes.port_of(old) or processes.free_port()
        running.put(processes.start_kept(run, "redis", redis.command(run / "redis", port), {}, f"redis://127.0.0.1:{port}/0"))
    old = running.find("jobmanager")
    if old is None or not old.alive():
        folder = run / "flink"
        address = flink.prepare(settings.home_folder, settings.jars, folder, tls.keys(run), processes.port_of(old))
        for name, command in (("jobmanager", flink.jobmanager(folder)), ("taskmanager", flink.taskmanager(folder))):
            earlier = running.find(name)
            if earlier is not None:
                processes.stop(earlier)
            running.put(processes.start_kept(run, name, command, java_env(), address if name == "jobmanager" else ""))
    if settings.redis is None:
        running.redis = running.get("redis").address
    run_state.write(run, running)
    with console.step("Redis") as remark:
        if settings.redis is None:
            processes.wait_until(lambda: redis.answers(running.redis), running.get("redis"), redis.START_LIMIT_S)
        remark(running.redis)
    jobmanager = running.get("jobmanager")
    with console.step("Flink cluster") as remark:
        processes.wait_until(lambda: flink.answers(jobmanager.address, tls.keys(run)), jobmanager, flink.START_LIMIT_S)
        remark(jobmanager.address)


def jobs(settings: StackSettings, running: run_state.State, env: Mapping[str, str]) -> None:
    """Start the supervisor of the Flink jobs; returns when each job runs."""
    jobmanager, old = running.get("jobmanager"), running.find("flink-jobs")
    if old is None or not old.alive():
        folder = settings.run_folder / "flink"
        python, submitting = flink.submitter(settings.home_folder, folder)
        command = [
            sys.executable,
            "-m",
            "feature_jobs",
            "supervise",
            *JOBS,
            "--cluster",
            jobmanager.address,
            "--python",
            python,
            "--checkpoints",
            str((folder / "checkpoints").resolve()),
            "--tls",
            str(tls.keys(settings.run_folder).folder),
        ]
        running.put(processes.start_kept(settings.run_folder, "flink-jobs", command, {**submitting, **env}))
        run_state.write(settings.run_folder, running)
    supervisor = running.get("flink-jobs")
    for name in JOBS:
        with console.step(f"Flink job {name}"):
            processes.wait_until(lambda name=name: runs(settings, jobmanager.address, name), supervisor, JOBS_LIMIT_S)  # type: ignore[misc]


def runs(settings: StackSettings, cluster: str, name: str) -> bool:
    """Whether all tasks of the job run."""
    overview = local_http.json_of(f"{cluster}/jobs/overview", tls.context_of(settings.run_folder)) or {"jobs": []}
    return any(
        job["name"] == name and job["state"] == "RUNNING" and job["tasks"]["running"] == job["tasks"]["total"]
        for job in overview["jobs"]
    )
