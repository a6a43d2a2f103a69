"""A checkpoint in the Hugging Face layout as a model folder: safetensors only, no code from the checkpoint, one digest over its
files."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from inference_workers.models.folder import ModelFolder
from schemas.errors import ModelRefused, RetryLater

PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja"]
HUB_LIMIT_S = 10.0  # for each question to the hub; its library limits each read of a download too
TOO_MANY = 429


def open_checkpoint(name: str) -> ModelFolder:
    """A checkpoint as a model folder, whose digest is computed over its files. Raises ModelRefused."""
    path = Path(name) if Path(name).is_dir() else _downloaded(name)
    files = sorted(file for pattern in PATTERNS for file in path.glob(pattern))
    if not any(file.suffix == ".safetensors" for file in files):
        raise ModelRefused(f"{name} has no safetensors: weights of other kinds can run code and are never loaded")
    try:
        config = json.loads((path / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelRefused(f"{name}: config.json cannot be read: {error}") from error
    if "auto_map" in config:
        raise ModelRefused(f"{name} wants to run code of its own: that is never done")
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            whole.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    digest = whole.hexdigest()
    labels = [config["id2label"][key] for key in sorted(config.get("id2label", {}), key=int)]
    return ModelFolder(
        path=path,
        name=name,
        version=digest[:12],
        digest=digest,
        config={**config, "coverage": labels},
        signature={},
        huggingface=True,
    )


def _downloaded(name: str) -> Path:
    """The newest files of the hub; if it does not answer, those that it gave before. Raises ModelRefused if it has no such model,
    RetryLater if it does not answer and this machine has no copy."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ModelRefused(f"{name} is no folder, and the hub's client is not here: `./millrace setup huggingface`") from error
    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS, etag_timeout=HUB_LIMIT_S))
    except Exception as error:  # errors of the hub's library and of its HTTP client
        with contextlib.suppress(Exception):
            return Path(snapshot_download(name, allow_patterns=PATTERNS, local_files_only=True))
        if _may_pass(error):
            raise RetryLater(f"hf:{name}: the hub does not answer, and this machine has no copy: {error}") from error
        raise ModelRefused(f"{name} is neither a folder nor a model that the Hugging Face hub gives: {error}") from error


def _may_pass(error: Exception) -> bool:
    """Whether the hub may answer later. A ValueError is about the name."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return not isinstance(error, ValueError) if status is None else status >= 500 or status == TOO_MANY
