"""The MLflow registry, as workers read it: `models:/NAME@alias` or `models:/NAME/version` to a folder. The only place in
this package that imports mlflow.

A worker asks once, when it loads; `model-updates-v1` never names an alias, so that all workers hold the same version.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from schemas.errors import ModelRefused, RetryLater

os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")


def located(name: str, alias: str, version: str, digest: str | None = None) -> tuple[Path, str]:
    """Folder and digest of a registered version, by its alias or its number. digest: what it must have, where that is known: a version
    that was fetched once is not asked for again. Raises ModelRefused where the registry has none, RetryLater where it does not answer."""
    uri = f"models:/{name}@{alias}" if alias else f"models:/{name}/{version}"
    if digest is not None and (kept := _kept(digest)).is_dir():
        return kept, digest
    address = os.environ.get("MILLRACE_MLFLOW", "")
    if not address:
        raise ModelRefused(f"{uri} is in the MLflow registry, and MILLRACE_MLFLOW names no server")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise ModelRefused(f"{uri} needs mlflow, which is not here: `./millrace setup mlflow`") from error
    client = MlflowClient(tracking_uri=address, registry_uri=address)
    try:
        found = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, version)
    except MlflowException as error:
        if _status(error) >= 500:
            raise RetryLater(f"{uri}: the registry at {address} does not answer: {error}") from error
        raise ModelRefused(f"{uri}: the registry at {address} says: {error}") from error
    registered = found.tags.get("digest", "")
    if not registered:
        raise ModelRefused(f"{uri} was registered without a digest: nothing says what it must be")
    source = urlsplit(found.source or "")
    if source.scheme in ("", "file"):
        return Path(unquote(source.path)), registered
    return _fetched(found.source or "", registered, address), registered


def _status(error: Any) -> int:
    """As HTTP has it; 500 is also what the client says where nobody listens."""
    return int(error.get_http_status_code())


def _kept(digest: str) -> Path:
    return Path(os.environ.get("MILLRACE_HOME", ".millrace")) / "models" / digest


def _fetched(source: str, digest: str, address: str) -> Path:
    """A copy of what the server keeps, by digest: fetched once, moved into place whole, and checked by whoever opens it."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    target = _kept(digest)
    home = target.parent
    if target.is_dir():
        return target
    home.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=home))
    try:
        fetched = Path(download_artifacts(artifact_uri=source, dst_path=str(scratch), tracking_uri=address))
        if not target.exists():
            fetched.rename(target)
    except MlflowException as error:
        if _status(error) >= 500:
            raise RetryLater(f"{source} cannot be fetched now: {error}") from error
        raise ModelRefused(f"{source} cannot be fetched: {error}") from error
    except OSError as error:  # also what the HTTP client raises
        status = getattr(getattr(error, "response", None), "status_code", 503)
        if status >= 500:
            raise RetryLater(f"{source} cannot be fetched now: {error}") from error
        raise ModelRefused(f"{source} cannot be fetched: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target
