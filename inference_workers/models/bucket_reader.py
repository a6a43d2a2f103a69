"""Model folders in S3 buckets: copied once to this machine, by digest.

Each question asks the store for the list of objects only. An object that changes gets another ETag, so the folder is copied again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from inference_workers.models.folder import MAX_FILE_BYTES, ModelFolder
from inference_workers.models.settings import ModelSettings
from schemas.errors import ModelRefused
from streams.buckets import s3, store_errors
from streams.process.settings import load

Open = Callable[[Path, str | None], ModelFolder]
MAX_OBJECTS = 1_000


def downloaded(uri: str, digest: str | None, opened: Open) -> ModelFolder:
    """The folder below `s3://bucket/prefix`, or the ONNX file of that name. digest: the expected digest, if it is known; then a copy
    that is here is opened without the store. opened: checks a local folder. Raises ModelRefused, and RetryLater if the store does
    not answer."""
    home = load(ModelSettings, os.environ).buckets
    if digest is not None and (copy := home / digest).is_dir():
        return opened(_content(copy), digest)
    with store_errors(uri, ModelRefused):
        listed = _of_folder(uri, s3().find(uri, detail=True))
    _check(uri, listed)
    seen = home / f"{_fingerprint(uri, listed)}.txt"  # holds the digest of what was copied for this list
    if seen.is_file() and (copy := home / seen.read_text()).is_dir():
        return opened(_content(copy), digest)
    home.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=home, prefix=".part-"))
    try:
        _copy(listed, scratch / "copy")
        folder = opened(_content(scratch / "copy"), digest)
        copy = home / folder.digest
        if not copy.exists():
            (scratch / "copy").rename(copy)
        seen.write_text(folder.digest)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return opened(_content(copy), folder.digest)


def _content(copy: Path) -> Path:
    """The copy, or the bare ONNX file that is all of it."""
    files = list(copy.iterdir())
    return files[0] if len(files) == 1 and files[0].suffix == ".onnx" else copy


def _fingerprint(uri: str, listed: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [uri, *(f"{name} {info.get('size')} {info.get('ETag')}" for name, info in sorted(listed.items()))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _check(uri: str, listed: Mapping[str, Mapping[str, Any]]) -> None:
    if not listed:
        raise ModelRefused(f"{uri} holds no objects: the prefix of a model's folder is needed")
    if len(listed) > MAX_OBJECTS:
        raise ModelRefused(f"{uri} holds {len(listed)} objects; the folder of a model has at most {MAX_OBJECTS}")
    for name, info in listed.items():
        if (info.get("size") or 0) > MAX_FILE_BYTES:
            raise ModelRefused(f"s3://{name} is larger than {MAX_FILE_BYTES} bytes")


def _of_folder(uri: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Objects directly below the prefix, or the object of that name. Deeper ones belong to no model folder."""
    prefix = PurePosixPath(uri.removeprefix("s3://"))
    return {name: info for name, info in found.items() if prefix in (path := PurePosixPath(name), path.parent)}


def _copy(listed: Mapping[str, Any], into: Path) -> None:
    into.mkdir()
    for name in listed:
        with store_errors(f"s3://{name}", ModelRefused):
            s3().get_file(name, str(into / PurePosixPath(name).name))
