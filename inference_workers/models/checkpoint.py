"""A checkpoint in the Hugging Face layout as a model folder: safetensors only, no code from the checkpoint, one digest over its
files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from inference_workers.models.folder import ModelFolder
from schemas.errors import ModelRefused

PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm"]


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
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=PATTERNS))
    except Exception as error:  # errors of the hub's library and of its HTTP client
        raise ModelRefused(f"{name} is neither a folder nor a model that the Hugging Face hub gives: {error}") from error
