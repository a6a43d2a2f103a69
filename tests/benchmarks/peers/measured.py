"""One run of one program: started, watched from its first to its last visible result, stopped; then its results are counted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from infra.local import processes
from infra.local.java import java_env
from infra.local.started import Started
from infra.settings import ROOT
from tests.benchmarks.mlp import REQUESTS, RESULTS
from tests.benchmarks.peers import json_requests
from tests.benchmarks.peers.compared import Program
from tests.benchmarks.peers.programs.answers import HEAD_BYTES, JOB, Job
from tests.benchmarks.peers.visible import Results, Tally, watch

PREPARE_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Setting:
    """What every run shares. request_ids: of the requests that lie in the topic, in their order."""

    bootstrap: str
    registry: str
    result_schema: int
    request_ids: Sequence[str]
    connector: str


def measure(program: Program, python: str, setting: Setting, count: int) -> dict[str, Any]:
    """Records per second, CPU per record, and results that were lost or doubled. Raises ProcessFailed with the end of the
    program's log."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-peer-"))
    log = folder / "program.log"
    load_before = os.getloadavg()[0]
    try:
        job = _job(program, setting, folder)
        environment = _environment(job, folder)
        *preparations, command = program.commands(python, job)
        for words in preparations:
            _prepare(words, environment, folder)
        results = Results(setting.bootstrap, job.results, _id_by_key if program.json_topic else _id_in_value)
        started = processes.start(program.name, command, log, environment, cwd=folder)
        try:
            figures = _watched(program, started, results, setting, count)
        finally:
            processes.stop(started, STOP_LIMIT_S)
            results.close()
        return {**figures, "load_before": round(load_before, 2)}
    except processes.ProcessFailed as error:
        raise processes.ProcessFailed(f"{error}. {processes.log_tail(log)}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watched(program: Program, started: Started, results: Results, setting: Setting, count: int) -> dict[str, Any]:
    expected = setting.request_ids[:count]

    def running() -> bool:
        return processes.is_running(started)

    if program.json_topic:
        json_requests.await_reader(setting.bootstrap, results, running)
        json_requests.write(setting.bootstrap, expected)
    first, last = watch(results.end, lambda: cpu_s(started.pid), running, results.start, count)
    tally = Tally(expected)
    results.read_all(tally)
    processes.stop(started, STOP_LIMIT_S)
    results.read(tally)  # what it wrote while it stopped
    measured = tally.between(first, last)
    if not measured:
        raise processes.ProcessFailed(f"{count} requests are too few: their results became visible at once")
    return {
        "records_s": measured / (last.at_s - first.at_s),
        "cpu_us": (last.cpu_s - first.cpu_s) / measured * 1e6,
        "seconds": last.at_s - first.at_s,
        "lost": tally.lost,
        "doubled": tally.doubled,
    }


def _job(program: Program, setting: Setting, folder: Path) -> Job:
    topics = (json_requests.REQUESTS, json_requests.RESULTS) if program.json_topic else (REQUESTS.name, RESULTS.name)
    return Job(
        bootstrap=setting.bootstrap,
        registry=setting.registry,
        group=f"{program.name}-{time.time_ns()}",
        requests=topics[0],
        results=topics[1],
        result_schema=setting.result_schema,
        guarantee=program.guarantee,
        folder=str(folder),
        connector=setting.connector,
    )


def _environment(job: Job, folder: Path) -> dict[str, str]:
    """Every program computes on one thread, and puts its temporary files into the job's folder."""
    given = {JOB: json.dumps(asdict(job)), "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "FLINK_LOG_DIR": str(folder)}
    return {**java_env(), **ONE_THREAD, **given}


def _prepare(words: list[str], environment: dict[str, str], folder: Path) -> None:
    try:
        subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, timeout=PREPARE_LIMIT_S, check=True)
    except subprocess.SubprocessError as error:
        raise processes.ProcessFailed(f"{' '.join(words[1:3])}: {error} {getattr(error, 'stderr', '')}") from error


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of all that it started, ended ones included. Raises ProcessFailed if it has ended."""
    total = 0.0
    try:
        process = psutil.Process(pid)
        tree = (process, *process.children(recursive=True))
    except psutil.NoSuchProcess as error:
        raise processes.ProcessFailed("the program ended") from error
    for one in tree:
        with suppress(psutil.NoSuchProcess):
            total += sum(one.cpu_times()[:4])  # user, system, and those of ended children
    return total


def _id_in_value(key: bytes | None, value: bytes) -> str:
    """The first field of a result: its length as a variable-length integer (one byte, doubled), then the text."""
    length = value[HEAD_BYTES] >> 1
    return value[HEAD_BYTES + 1 : HEAD_BYTES + 1 + length].decode()


def _id_by_key(key: bytes | None, value: bytes) -> str:
    return (key or b"").decode()
