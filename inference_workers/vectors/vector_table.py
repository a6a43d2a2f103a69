"""The rows of a space in the Parquet files that count, and the last row of each key among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from inference_workers.vectors.index_files import KEY_COLUMNS
from streams.archived.manifests import Manifest, manifests

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
AT_ONCE = 20_000  # rows of a file in memory


def spaces(folder: Path) -> set[str]:
    """Names of the folders that hold vectors."""
    return {Path(name).parent.name for manifest in manifests(folder) for name in manifest["files"]}


def files_since(folder: Path, space: str, ends: Mapping[int, int]) -> tuple[list[Path], dict[int, int]]:
    """The files of a space with rows at or after these offsets, and the offsets up to which all files go. ends: by partition."""
    found: list[Path] = []
    new_ends = dict(ends)
    for manifest in manifests(folder):
        start = ends.get(manifest["partition"], 0)
        if manifest["end"] > start:
            files = _of_space(folder, manifest, space)  # of a merged manifest, perhaps only with rows before the start
            found += files if manifest["first"] >= start else [file for file in files if _last_offset(file) >= start]
            new_ends[manifest["partition"]] = max(new_ends.get(manifest["partition"], 0), manifest["end"])
    return found, new_ends


def _last_offset(file: Path) -> int:
    last: int = pc.max(pq.read_table(file, columns=["offset"], partitioning=None)["offset"]).as_py()
    return last


def _of_space(folder: Path, manifest: Manifest, space: str) -> list[Path]:
    return [folder / name for name in manifest["files"] if Path(name).parent.name == space]


def keys_of(files: Sequence[Path], ends: Mapping[int, int]) -> list[pa.Table]:
    """The columns KEY_COLUMNS of the rows at or after these offsets."""
    return list(_parts(files, ends, KEY_COLUMNS))


def vectors_of(files: Sequence[Path], ends: Mapping[int, int]) -> Iterator[Floats]:
    """The vectors of the same rows in the same order, in parts: float32 (n, width), of length 1."""
    for table in _parts(files, ends, ("partition", "offset", "vector")):
        yield _unit(table["vector"])


def _parts(files: Sequence[Path], ends: Mapping[int, int], columns: Sequence[str]) -> Iterator[pa.Table]:
    for file in files:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(AT_ONCE, columns=list(columns)):
                table = pa.table(batch)
                starts = np.array([ends.get(partition, 0) for partition in table["partition"].to_pylist()], np.int64)
                table = table.filter(pa.array(table["offset"].to_numpy() >= starts))
                if len(table):
                    yield table.select(list(columns))


def _unit(column: pa.ChunkedArray) -> Floats:
    values = column.combine_chunks().flatten().to_numpy().reshape(len(column), -1).astype(np.float64)
    unit: Floats = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return unit


def last_rows(keys: pa.Table) -> Rows:
    """int64 (n,): the row of each key's last record, sorted. Within a partition the offset decides. If the topic got more partitions, a
    key may have rows in two: then the broker's time decides."""
    rows = keys.select(["key", "partition", "offset", "appended_ms"]).append_column("row", pa.array(np.arange(len(keys))))
    in_partition = rows.sort_by([("key", "ascending"), ("partition", "ascending"), ("offset", "ascending")])
    rows = in_partition.filter(_ends_a_run(in_partition, ("key", "partition")))
    by_time = rows.sort_by([("key", "ascending"), ("appended_ms", "ascending"), ("partition", "ascending")])
    last: Rows = np.sort(by_time.filter(_ends_a_run(by_time, ("key",)))["row"].to_numpy())
    return last


def _ends_a_run(table: pa.Table, names: Sequence[str]) -> pa.Array:
    """bool (n,): whether the next row differs in one of these columns."""
    differs = np.ones(len(table), np.bool_)
    if len(table) > 1:
        differs[:-1] = False
        for name in names:
            column = table[name].combine_chunks()
            differs[:-1] |= pc.not_equal(column.slice(1), column.slice(0, len(column) - 1)).to_numpy(zero_copy_only=False)
    return pa.array(differs)
