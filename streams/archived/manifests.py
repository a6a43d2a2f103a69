"""The manifests of an archive: they list its files, and keep them few. Only files that a manifest names count.

A manifest whose offsets are part of another's was merged into it and no longer counts. Manifests and files are merged when they
are an hour old, and removed an hour later. So a reader that lists them has an hour to read the listed files, and a writer that
was suspended for an hour checks before it links (`ParquetStep`).
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

MANIFESTS = "_manifests"
MERGE_AFTER_S = 3_600.0
MERGE_FROM = 64  # this many small ones become one
WHOLE_ROWS = 500_000  # a manifest with this many rows is not merged further
WHOLE_BYTES = 64 * 1024 * 1024  # nor one whose files have so many bytes: a merge holds them in memory

Manifest = dict[str, Any]  # partition, first, end, rows, bytes (older ones lack it), files; name: of its own file


def manifests(folder: Path) -> list[Manifest]:
    """The manifests that count, by partition and first offset."""
    found: list[Manifest] = []
    for manifest in sorted(_all(folder), key=lambda m: (m["partition"], m["first"], -m["end"])):
        if not (found and found[-1]["partition"] == manifest["partition"] and manifest["end"] <= found[-1]["end"]):
            found.append(manifest)
    return found


def _all(folder: Path) -> Iterator[Manifest]:
    for file in sorted((folder / MANIFESTS).glob("*.json")):
        yield {**json.loads(file.read_text()), "name": file.name}


def manifest_ends(folder: Path) -> dict[int, int]:
    ends: dict[int, int] = {}
    for manifest in manifests(folder):
        ends[manifest["partition"]] = max(ends.get(manifest["partition"], 0), manifest["end"])
    return ends


def committed_files(folder: Path) -> list[str]:
    return [str(folder / name) for manifest in manifests(folder) for name in manifest["files"]]


def newest_offset(folder: Path, partition: int) -> int:
    """The highest offset in the names of a partition's manifests, without opening one; -1 if there is none."""
    names = [file.stem.split("-") for file in (folder / MANIFESTS).glob(f"p{partition}-*.json")]
    return max((int(last) - 1 if rest else int(first) for _, first, *rest in names for last in rest or [first]), default=-1)


def link(folder: Path, manifest: Manifest, name: str) -> None:
    """Create a manifest, complete and on disk. Raises FileExistsError if one of this name exists: a rename would replace it."""
    target = folder / MANIFESTS / name
    draft = target.with_suffix(f".{secrets.token_hex(4)}")
    try:
        with draft.open("w") as written:
            json.dump({key: value for key, value in manifest.items() if key != "name"}, written)
            written.flush()
            os.fsync(written.fileno())
        os.link(draft, target)
        sync(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_parquet(file: Path, table: pa.Table) -> None:
    """Write a complete file, on disk before anything names it."""
    if not file.parent.exists():
        file.parent.mkdir(exist_ok=True)
        sync(file.parent.parent)
    draft = file.with_suffix(".part")
    pq.write_table(table, draft, compression="zstd")
    sync(draft)
    draft.rename(file)
    sync(file.parent)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- merging ----------------------------------------------------------------------------------------------------------


def merge(folder: Path, schema: pa.Schema, partition: int, now_s: float) -> int:
    """Merge many small manifests of a partition into one, and their files too, and remove those that were merged earlier. Returns
    how many were merged."""
    _sweep(folder, partition, now_s)
    run: list[Manifest] = []
    for manifest in (m for m in manifests(folder) if m["partition"] == partition):
        if _is_whole([manifest]) or now_s - _written_s(folder / MANIFESTS / manifest["name"]) < MERGE_AFTER_S:
            if len(run) >= MERGE_FROM:
                break
            run = []
        else:
            run.append(manifest)
    if len(run) < MERGE_FROM:
        return 0
    enough = next((i for i in range(2, len(run)) if _is_whole(run[:i])), len(run))
    _merge(folder, schema, run[:enough])
    return enough


def _is_whole(run: Sequence[Manifest]) -> bool:
    rows, whole_bytes = sum(int(m["rows"]) for m in run), sum(int(m.get("bytes", 0)) for m in run)
    return rows >= WHOLE_ROWS or whole_bytes >= WHOLE_BYTES


def bytes_of(folder: Path, files: Sequence[str]) -> int:
    return sum((folder / name).stat().st_size for name in files)


def _merge(folder: Path, schema: pa.Schema, run: Sequence[Manifest]) -> None:
    partition, first, end = run[0]["partition"], run[0]["first"], run[-1]["end"]
    by_folder: dict[Path, list[str]] = {}
    for manifest in run:
        for name in manifest["files"]:
            by_folder.setdefault((folder / name).parent, []).append(str(folder / name))
    files = []
    for place, parts in sorted(by_folder.items()):
        file = place / f"p{partition}-{first:020d}-{end:020d}-{secrets.token_hex(4)}.parquet"
        table = ds.dataset(parts, schema=schema, format="parquet", partitioning=None).to_table()
        write_parquet(file, table.sort_by("offset"))
        files.append(str(file.relative_to(folder)))
    rows, n_bytes = sum(m["rows"] for m in run), bytes_of(folder, files)
    whole = {"partition": partition, "first": first, "end": end, "rows": rows, "bytes": n_bytes, "files": files}
    try:
        link(folder, whole, f"p{partition}-{first:020d}-{end:020d}.json")
    except FileExistsError:  # another writer made the same merge
        for name in files:
            (folder / name).unlink()


def _sweep(folder: Path, partition: int, now_s: float) -> None:
    """Remove manifests that were merged an hour ago, then files that no manifest names and that were not written to for an
    hour."""
    live = [m for m in manifests(folder) if m["partition"] == partition]
    merged_s = {m["name"]: _written_s(folder / MANIFESTS / m["name"]) for m in live}
    for old in [m for m in _all(folder) if m["partition"] == partition and m["name"] not in merged_s]:
        whole = next(m for m in live if m["first"] <= old["first"] and old["end"] <= m["end"])
        if now_s - merged_s[whole["name"]] >= MERGE_AFTER_S:
            (folder / MANIFESTS / old["name"]).unlink()
    named = {str(folder / name) for m in _all(folder) for name in m["files"]}
    for file in folder.glob(f"*=*/p{partition}-*"):
        if str(file) not in named and now_s - _written_s(file) >= MERGE_AFTER_S:
            file.unlink()


def _written_s(file: Path) -> float:
    return file.stat().st_mtime
