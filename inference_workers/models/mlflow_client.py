"""The client of the MLflow registry, with limits of time and without Feast.

At its first request MLflow imports every package that offers headers for it. Feast offers some, needs them for servers of its own
only, and takes more than ten seconds of processor time to import.
"""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint

os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

from mlflow import MlflowClient
from mlflow.utils import plugins

_installed = plugins._get_entry_points


def _without_feast(group: str) -> list[EntryPoint]:
    return [point for point in _installed(group) if not point.value.startswith("feast.")]


plugins._get_entry_points = _without_feast


def client(address: str) -> MlflowClient:
    return MlflowClient(tracking_uri=address, registry_uri=address)
