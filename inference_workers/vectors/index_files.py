"""An index of vectors on disk: one folder a generation, made beside its place, complete and on disk before it is renamed there.

A generation holds the last vector of each key up to an offset of each partition: `vectors.npy`, of length 1 each, `keys.parquet` in
the same order, `index.faiss`, and `manifest.json` with the offsets and a digest of each file. The Parquet files from which it is made
stay (`streams/archived/`): a generation that was cut or changed is passed over, and made again out of them.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from inference_workers.models.folder import sha256_of
from inference_workers.recommending import item_index
from inference_workers.recommending.item_index import IndexPlan, ItemIndex
from schemas.errors import ModelRefused
from streams.archived.manifests import sync

INDEXES = "_index"
MANIFEST = "manifest.json"
VECTORS, KEYS, FAISS = "vectors.npy", "keys.parquet", "index.faiss"
KEPT = 2  # generations: a reader may have the one before the newest open
KEY_COLUMNS = ("key", "model", "version", "request_id", "appended_ms", "partition", "offset")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Generation:
    """vectors: float32 (n, width), mapped, of length 1. keys: the columns KEY_COLUMNS, in the same order. ends: by partition, the offset
    after the last record in it. index: None if `vectors` are searched one by one."""

    number: int
    vectors: Floats
    keys: pa.Table
    ends: Mapping[int, int]
    plan: IndexPlan
    index: ItemIndex | None


def generations(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted((found for found in folder.glob("[0-9]*") if found.name.isdigit()), key=lambda found: -int(found.name))


def stated(folder: Path) -> tuple[Path, dict[int, int], int] | None:
    """The newest generation, its offsets and its number of vectors, as its manifest says; its files are not read. None if there is none
    or its manifest cannot be read."""
    for found in generations(folder)[:1]:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            manifest = json.loads((found / MANIFEST).read_text())
            return found, {int(k): v for k, v in manifest["ends"].items()}, int(manifest["plan"]["items"])
    return None


def newest(folder: Path) -> Generation | None:
    """The newest generation that is whole; None if there is none."""
    for found in generations(folder):
        try:
            return opened(found)
        except (ModelRefused, OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
            structlog.get_logger().warning("index passed over", folder=str(found), cause=str(error))
    return None


def opened(folder: Path) -> Generation:
    """Raises ModelRefused, and errors of the libraries, for a folder that is not whole."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name, expected in manifest["files"].items():
        if sha256_of(folder / Path(name).name) != expected:
            raise ModelRefused(f"{folder / name} is not what the manifest says")
    vectors: Floats = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    keys = pq.read_table(folder / KEYS, partitioning=None)
    if len(vectors) != len(keys):
        raise ModelRefused(f"{folder} has {len(vectors)} vectors and {len(keys)} keys")
    plan = IndexPlan.from_config(manifest["plan"])
    index = item_index.load(folder / FAISS, plan, vectors) if FAISS in manifest["files"] else None
    return Generation(int(folder.name), vectors, keys, {int(k): v for k, v in manifest["ends"].items()}, plan, index)


def add(folder: Path, number: int, ends: Mapping[int, int], fill: Callable[[Path], IndexPlan]) -> Path | None:
    """Make a generation. fill: writes its files into an empty folder. Returns None if another process made this number meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f".part-{secrets.token_hex(4)}"
    made.mkdir()
    try:
        plan = fill(made)
        files = {file.name: sha256_of(file) for file in sorted(made.iterdir())}
        written: dict[str, Any] = {"plan": plan.as_config(), "ends": {str(k): v for k, v in sorted(ends.items())}, "files": files}
        (made / MANIFEST).write_text(json.dumps(written, indent=2) + "\n")
        for file in made.iterdir():
            sync(file)
        sync(made)
        target = folder / f"{number:08d}"
        try:
            made.rename(target)  # fails if it is there, as it is not empty
        except OSError:
            if target.exists():
                return None
            raise
        sync(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    for old in generations(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def sweep(folder: Path) -> None:
    """Remove what a killed process left half made."""
    for left in folder.glob("*/.part-*"):
        with suppress(OSError):
            shutil.rmtree(left)
