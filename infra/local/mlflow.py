"""The MLflow server as a child process: tracking and model registry on loopback, with SQLite and without job execution, which
would take eight more processes and another gigabyte."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from infra.local.processes import free_port, start
from infra.local.started import Started
from schemas.errors import BadSettings
from streams import local_http

START_LIMIT_S = 120.0


def start_mlflow(folder: Path, log: Path, port: int | None = None) -> Started:
    """Raises BadSettings if mlflow is not installed."""
    if importlib.util.find_spec("mlflow") is None:
        raise BadSettings("MILLRACE_MLFLOW is `local`, but MLflow is not installed: `./millrace setup mlflow` installs it")
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--no-serve-artifacts",
        "--default-artifact-root",
        (folder / "artifacts").as_uri(),
    ]
    env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    return start("mlflow", command, log, env, f"http://127.0.0.1:{port}", cwd=folder)


def answers(address: str) -> bool:
    return local_http.page_answers(f"{address}/health")
