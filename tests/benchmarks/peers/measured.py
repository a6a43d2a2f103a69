"""One run of one program: started, watched from its first to its last visible result, stopped; then its results are counted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from infra.local import processes
from infra.local.java import java_env
from infra.local.started import Started
from infra.settings import ROOT
from streams import headers as h
from streams.headers import HeaderList
from tests.benchmarks.mlp import REQUESTS, RESULTS
from tests.benchmarks.peers import json_requests
from tests.benchmarks.peers.compared import Program
from tests.benchmarks.peers.filled import Filled
from tests.benchmarks.peers.programs.answers import JOB, Job
from tests.benchmarks.peers.tally import Tally
from tests.benchmarks.peers.visible import Mark, Results, watch

PREPARE_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0
LOGITS_BYTES = 8  # two float32
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def measure(program: Program, python: str, filled: Filled, connector: Path, count: int) -> dict[str, Any]:
    """Records per second, CPU per record, and results that were lost or doubled. Raises ProcessFailed with the end of the
    program's log."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-peer-"))
    log = folder / "program.log"
    load_before = os.getloadavg()[0]
    try:
        job = _job(program, filled, connector, folder)
        environment = _environment(job, folder)
        *preparations, command = program.commands(python, job)
        for words in preparations:
            _prepare(words, environment, folder)
        answer = json_requests.answer_in if program.json_topic else answer_in
        with closing(Results(filled.bootstrap, job.results, answer)) as results:
            started = processes.start(program.name, command, log, environment, cwd=folder)
            try:
                first, last, tally = _watched(program, started, results, filled, count)
            finally:
                processes.stop(started, STOP_LIMIT_S)
                results.settle()
            results.read(tally)  # what it wrote while it stopped
        return {**_figures(first, last, tally), "load_before": round(load_before, 2)}
    except processes.ProcessFailed as error:
        raise processes.ProcessFailed(f"{error}. {processes.log_tail(log)}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watched(program: Program, started: Started, results: Results, filled: Filled, count: int) -> tuple[Mark, Mark, Tally]:
    """Until each counted request has a result, or none comes any more."""
    requests = filled.requests.first(count)

    def running() -> bool:
        return processes.is_running(started)

    with ExitStack() as stack:
        if program.json_topic:
            json_requests.await_reader(filled.bootstrap, results, running)
            requests = stack.enter_context(json_requests.written(filled.bootstrap, requests.ids, results))
        first, last = watch(results.end, lambda: cpu_s(started.pid), running, results.start, count)
        tally = Tally(requests)
        results.read_all(tally)
    return first, last, tally


def _figures(first: Mark, last: Mark, tally: Tally) -> dict[str, Any]:
    seconds, records = last.at_s - first.at_s, tally.between(first.end, last.end)
    if not records:
        raise processes.ProcessFailed("there are too few requests: their results became visible at once")
    if tally.wrong:
        raise processes.ProcessFailed(f"{tally.wrong} results are not what the network makes of their requests")
    return {
        "records_s": records / seconds,
        "cpu_us": (last.cpu_s - first.cpu_s) / records * 1e6,
        "seconds": seconds,
        "lost": tally.lost,
        "doubled": tally.doubled,
    }


def _job(program: Program, filled: Filled, connector: Path, folder: Path) -> Job:
    topics = (json_requests.REQUESTS, json_requests.RESULTS) if program.json_topic else (REQUESTS.name, RESULTS.name)
    return Job(
        bootstrap=filled.bootstrap,
        registry=filled.registry,
        group=f"{program.name}-{time.time_ns()}",
        requests=topics[0],
        results=topics[1],
        result_schema=filled.result_schema,
        guarantee=program.guarantee,
        folder=str(folder),
        connector=str(connector),
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


def answer_in(key: bytes | None, value: bytes, headers: HeaderList) -> tuple[str, bytes]:
    """Request id and logits of a result: a header, and the last bytes of the value."""
    return dict(headers)[h.CE_ID].decode(), value[-LOGITS_BYTES:]
