"""A checkpoint in the Hugging Face layout as a model folder: safetensors only, no code from the checkpoint, one digest over its
files."""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path

from inference_workers.models.folder import ModelFolder, read_fields
from schemas.errors import ModelRefused, RetryLater

WEIGHTS = "*.safetensors"
PATTERNS = ["*.json", WEIGHTS, "*.txt", "*.model", "*.spm", "*.jinja"]
HUB_LIMIT_S = 10.0  # for each question to the hub; its library limits each read of a download too
TOO_MANY = 429
PART = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")


def open_checkpoint(name: str, weights: bool = True) -> ModelFolder:
    """A checkpoint as a model folder, whose digest is computed over its files. weights: whether they are needed; without them, they
    are neither downloaded nor a part of the digest. Raises ModelRefused."""
    patterns = PATTERNS if weights else [pattern for pattern in PATTERNS if pattern != WEIGHTS]
    path = Path(name) if Path(name).is_dir() else _downloaded(name, patterns)
    files = sorted(file for pattern in patterns for file in path.glob(pattern))
    if weights and not any(file.suffix == ".safetensors" for file in files):
        raise ModelRefused(f"{name} has no safetensors: weights of other kinds can run code and are never loaded")
    config = read_fields(path / "config.json")
    if "auto_map" in config:
        raise ModelRefused(f"{name} wants to run code of its own: that is never done")
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            whole.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    digest = whole.hexdigest()
    try:
        labels = [config["id2label"][key] for key in sorted(config.get("id2label", {}), key=int)]
    except (TypeError, ValueError) as error:
        raise ModelRefused(f"{path / 'config.json'}: id2label must have a number for each label: {error}") from error
    return ModelFolder(
        path=path,
        name=name,
        version=digest[:12],
        digest=digest,
        config={**config, "coverage": labels},
        signature={},
        huggingface=True,
    )


def _downloaded(name: str, patterns: list[str]) -> Path:
    """The newest files of the hub; if it does not answer, those that it gave before. Raises ModelRefused if it has no such model or
    does not give it, RetryLater if it does not answer and this machine has no whole copy."""
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise ModelRefused(f"{name} is no folder, and the hub's client is not here: `./millrace setup huggingface`") from error
    try:
        HfApi().model_info(name, timeout=HUB_LIMIT_S)  # snapshot_download takes a copy for an answer, whatever the hub says
        return Path(snapshot_download(name, allow_patterns=patterns, etag_timeout=HUB_LIMIT_S))
    except Exception as error:  # errors of the hub's library and of its HTTP client
        if not _may_pass(error):
            raise ModelRefused(f"{name} is neither a folder nor a model that the Hugging Face hub gives: {error}") from error
        with contextlib.suppress(Exception):
            copy = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
            if WEIGHTS not in patterns or _is_whole(copy):
                return copy
        raise RetryLater(f"hf:{name}: the hub does not answer, and this machine has no whole copy: {error}") from error


def _is_whole(copy: Path) -> bool:
    """Whether the config and every part of the weights are there: a download that was cut leaves a folder too."""
    weights = {file.name for file in copy.glob("*.safetensors") if file.exists()}  # links to files, which may be gone
    parts = {
        f"{m[1]}-{i:05}-of-{m[2]}.safetensors" for name in weights if (m := PART.fullmatch(name)) for i in range(1, int(m[2]) + 1)
    }
    for index in copy.glob("*.safetensors.index.json"):
        parts |= set(read_fields(index)["weight_map"].values())
    return bool(weights) and parts <= weights and (copy / "config.json").exists()


def _may_pass(error: Exception) -> bool:
    """Whether the hub may answer later. A ValueError is about the name."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return not isinstance(error, ValueError) if status is None else status >= 500 or status == TOO_MANY
