"""Reads versions from the MLflow registry, from `models:/NAME@alias` or `models:/NAME/version` to a folder.

A worker asks the registry once, when it loads a version. `model-updates-v1` never names an alias, so that all workers have the
same version.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from inference_workers.models.settings import ModelSettings
from schemas.errors import ModelRefused, RetryLater
from streams.process.settings import load


def located(name: str, alias: str, version: str, digest: str | None = None) -> tuple[Path, str]:
    """Folder and digest of a registered version, by its alias or its number. digest: the expected digest, if it is known; then a
    version that was fetched before is taken from the cache, without the registry. Raises ModelRefused if the registry has no such
    version, RetryLater if it does not answer."""
    uri = f"models:/{name}@{alias}" if alias else f"models:/{name}/{version}"
    settings = load(ModelSettings, os.environ)
    address = settings.mlflow
    if digest is not None and (cached := settings.cache / digest).is_dir():
        return cached, digest
    if not address:
        raise ModelRefused(f"{uri} is in the MLflow registry, but MILLRACE_MLFLOW has no address")
    try:
        from mlflow.exceptions import MlflowException

        from inference_workers.models.mlflow_client import client
    except ImportError as error:
        raise ModelRefused(f"{uri} needs mlflow, which is not installed: `./millrace setup mlflow`") from error
    registry = client(address)
    try:
        registration = registry.get_model_version_by_alias(name, alias) if alias else registry.get_model_version(name, version)
    except MlflowException as error:
        if _status(error) >= 500:
            raise RetryLater(f"{uri}: the registry at {address} does not answer: {error}") from error
        raise ModelRefused(f"{uri}: the registry at {address} says: {error}") from error
    registered = registration.tags.get("digest", "")
    if not registered:
        raise ModelRefused(f"{uri} was registered without a digest, so its files cannot be checked")
    source = urlsplit(registration.source or "")
    if source.scheme in ("", "file"):
        return Path(unquote(source.path)), registered
    return _fetched(registration.source or "", settings.cache / registered, address), registered


def _status(error: Any) -> int:
    """The HTTP status; the client also reports 500 if nothing listens at the address."""
    return int(error.get_http_status_code())


def _fetched(source: str, target: Path, address: str) -> Path:
    """Copies a version from the server to `target`, once. The folder appears only when it is complete. The caller that opens it
    checks its digest."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        fetched = Path(download_artifacts(artifact_uri=source, dst_path=str(scratch), tracking_uri=address))
        if not target.exists():
            fetched.rename(target)
    except MlflowException as error:
        if _status(error) >= 500:
            raise RetryLater(f"{source} cannot be fetched now: {error}") from error
        raise ModelRefused(f"{source} cannot be fetched: {error}") from error
    except OSError as error:  # errors of the HTTP client too
        status = getattr(getattr(error, "response", None), "status_code", 503)
        if status >= 500:
            raise RetryLater(f"{source} cannot be fetched now: {error}") from error
        raise ModelRefused(f"{source} cannot be fetched: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target
