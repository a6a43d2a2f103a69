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
        if manifest["end"] > ends.get(manifest["partition"], 0):
            found += _of_space(folder, manifest, space)
            new_ends[manifest["partition"]] = max(new_ends.get(manifest["partition"], 0), manifest["end"])
    return found, new_ends


def _of_space(folder: Path, manifest: Manifest, space: str) -> list[Path]:
    return [folder / name for name in manifest["files"] if Path(name).parent.name == space]


def batches(files: Sequence[Path], ends: Mapping[int, int]) -> Iterator[tuple[pa.Table, Floats]]:
    """The rows at or after these offsets, in parts: their columns KEY_COLUMNS, and their vectors, float32 (n, width), of length 1."""
    for file in files:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(AT_ONCE, columns=[*KEY_COLUMNS, "vector"]):
                table = pa.table(batch)
                starts = np.array([ends.get(partition, 0) for partition in table["partition"].to_pylist()], np.int64)
                table = table.filter(pa.array(table["offset"].to_numpy() >= starts))
                if len(table):
                    yield table.select(list(KEY_COLUMNS)), _unit(table["vector"])


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
