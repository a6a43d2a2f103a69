"""Keeps Flink jobs running on a session cluster: submits each missing job, from its newest checkpoint.

A session cluster forgets its jobs when its job manager dies, and a job that fails for good stays ended. In both cases the job is
submitted again. A job in any state from which it may still continue is never submitted.
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from feature_jobs.settings import FeatureSettings
from streams import local_http
from streams.process.shell import configure_logging, stop_event

LOOK_EVERY_S = 2.0
SUBMIT_LIMIT_S = 180.0
_GOING = {"INITIALIZING", "CREATED", "RUNNING", "RESTARTING", "FAILING", "CANCELLING", "RECONCILING", "SUSPENDED"}


def states(cluster: str, keys: Path | None) -> dict[str, str] | None:
    """The state of the newest job of each name; None if the cluster does not answer or has no task manager. keys: folder with the
    certificate and key for a cluster that requires them."""
    overview = _get(f"{cluster}/overview", keys)
    jobs = _get(f"{cluster}/jobs/overview", keys)
    if overview is None or jobs is None or not overview.get("slots-total"):
        return None
    found: dict[str, str] = {}
    for job in sorted(jobs["jobs"], key=lambda job: job["start-time"]):
        found[job["name"]] = job["state"]
    return found


def _get(url: str, keys: Path | None) -> dict[str, Any] | None:
    if keys is None:
        return local_http.json_of(url)
    try:
        context = ssl.create_default_context(cafile=str(keys / "cert.pem"))
        context.load_cert_chain(keys / "cert.pem", keys / "key.pem")
    except OSError:  # no readable keys in the folder
        return None
    return local_http.json_of(url, context)


def supervise(
    names: Sequence[str],
    cluster: str,
    python: str,
    checkpoints: Path,
    interval_ms: int,
    keys: Path | None,
    settings: FeatureSettings,
) -> int:
    configure_logging(settings.log_json)
    stopping, log = stop_event(), structlog.get_logger()
    while not stopping.is_set():
        found = states(cluster, keys)
        for name in names if found is not None else ():
            if found is None or found.get(name) in _GOING or stopping.is_set():
                continue
            log.info("submit", job=name, was=found.get(name))
            code = _submit(name, cluster, python, checkpoints, interval_ms, settings)
            log.info("submitted" if code == 0 else "not submitted", job=name, code=code)
        stopping.wait(LOOK_EVERY_S)
    return 0


def _submit(name: str, cluster: str, python: str, checkpoints: Path, interval_ms: int, settings: FeatureSettings) -> int:
    """Submit in a separate process group: the submitter starts a JVM, which must end with it, also after a timeout."""
    command = [
        python,
        "-m",
        "feature_jobs.jobs",
        name,
        "--cluster",
        cluster,
        "--bootstrap",
        settings.bootstrap,
        "--registry",
        settings.registry,
        "--checkpoints",
        str(checkpoints),
        "--interval-ms",
        str(interval_ms),
    ]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
    try:
        return process.wait(SUBMIT_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return -1
