"""Model folders in S3 buckets: copied once to this machine, by digest.

Each question asks the store for one page of the list of objects only. An object that changes gets another ETag, so the folder is
copied again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from inference_workers.models.folder import MAX_FILE_BYTES, ModelFolder
from inference_workers.models.one_at_a_time import alone
from inference_workers.models.settings import ModelSettings
from schemas.errors import ModelRefused
from streams.buckets import COPY_LIMIT_S, objects_of, s3, store_errors
from streams.process.settings import load

Open = Callable[[Path, str | None], ModelFolder]
Objects = Sequence[Mapping[str, Any]]
SCRATCH = ".part-"
MAX_OBJECTS = 1_000
WAIT_LIMIT_S = 600.0  # for another process that copies a folder


def downloaded(uri: str, digest: str | None, opened: Open) -> ModelFolder:
    """The folder below `s3://bucket/prefix`, or the ONNX file of that name. digest: the expected digest, if it is known; then a copy
    that is here is opened without the store. opened: checks a local folder. Raises ModelRefused, and RetryLater if the store does
    not answer."""
    home = load(ModelSettings, os.environ).buckets
    if digest is not None and (copy := home / digest).is_dir():
        return opened(_content(copy), digest)
    with store_errors(uri, ModelRefused):
        objects, are_all = objects_of(uri, MAX_OBJECTS)
    _check(uri, objects, are_all)
    seen = home / f"{_fingerprint(uri, objects)}.txt"  # holds the digest of what was copied for this list
    if (here := _seen(seen)) is None:
        with alone(home, WAIT_LIMIT_S):  # another process may copy it meanwhile
            here = _seen(seen) or _copied(objects, seen, lambda content: opened(content, digest))
    return opened(_content(here), digest)


def _seen(seen: Path) -> Path | None:
    """The copy of a list of objects; None if there is none."""
    digest = seen.read_text() if seen.is_file() else ""
    return copy if digest and (copy := seen.parent / digest).is_dir() else None


def _copied(objects: Objects, seen: Path, opened: Callable[[Path], ModelFolder]) -> Path:
    """Copy the objects; the caller holds the lock. The copy appears as a whole, and `seen` after it."""
    home = seen.parent
    home.mkdir(exist_ok=True)
    for left in home.glob(f"{SCRATCH}*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=home, prefix=SCRATCH))
    try:
        _copy(objects, scratch / "copy")
        digest = opened(_content(scratch / "copy")).digest
        copy = home / digest
        if not copy.exists():
            (scratch / "copy").rename(copy)
        (scratch / "seen").write_text(digest)
        (scratch / "seen").rename(seen)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return copy


def _content(copy: Path) -> Path:
    """The copy, or the bare ONNX file that is all of it."""
    files = list(copy.iterdir())
    return files[0] if len(files) == 1 and files[0].suffix == ".onnx" else copy


def _fingerprint(uri: str, objects: Objects) -> str:
    lines = [uri, *sorted(f"{info['name']} {info['size']} {info['ETag']}" for info in objects)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _check(uri: str, objects: Objects, are_all: bool) -> None:
    if not are_all:
        raise ModelRefused(f"{uri} holds more than {MAX_OBJECTS} objects and folders: it is not the folder of a model")
    if not objects:
        raise ModelRefused(f"{uri} holds no objects: the prefix of a model's folder is needed")
    for info in objects:
        if info["size"] > MAX_FILE_BYTES:
            raise ModelRefused(f"s3://{info['name']} is larger than {MAX_FILE_BYTES} bytes")


def _copy(objects: Objects, into: Path) -> None:
    into.mkdir()
    for info in objects:
        name = info["name"]
        with store_errors(f"s3://{name}", ModelRefused):
            s3().get_file(name, str(into / PurePosixPath(name).name), timeout=COPY_LIMIT_S)
