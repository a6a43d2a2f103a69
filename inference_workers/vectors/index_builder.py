"""Makes an index anew out of the one before it and the files that came since, beside the loop that writes the files.

Rows are read in parts and vectors are mapped, so that memory holds keys, codes of the index, and a part of the vectors. Up to
EXACT_ROWS the index is exact; above, cells and codes whose candidates are compared with their vectors (`item_index.py`); where that
finds less than 95 % of what an exact search finds, the vectors are searched one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from inference_workers.recommending import item_index
from inference_workers.recommending.item_index import IndexKind, IndexPlan
from inference_workers.vectors import index_files
from inference_workers.vectors.index_files import FAISS, INDEXES, KEYS, VECTORS, Generation
from inference_workers.vectors.vector_table import Floats, files_since, keys_of, last_rows, spaces, vectors_of
from schemas.errors import ModelRefused
from streams.clock import Clock
from streams.daemon_thread import Background, Call
from streams.loop.processor import Hooks, Report

EXACT_ROWS = 50_000
GROWN = 0.25  # of the index: so much more makes a new one
LEAST_PAUSE_S = 60.0
PAUSE_TIMES = 20  # a smaller change waits for so many times what the last index took


def refresh(folder: Path, space: str, force: bool, exact_rows: int = EXACT_ROWS, whole: set[Path] | None = None) -> int:
    """Make a new generation of a space's index if rows came that it lacks. force: also if they are few beside those in it. whole: the
    generations that were read whole before; it grows. While nothing is to be made, their files are not read again. Returns the number
    of its vectors; 0 if none was made."""
    place, whole = folder / INDEXES / space, set() if whole is None else whole
    known = index_files.stated(place)
    if known is not None and known[0] in whole and not _is_due(files_since(folder, space, known[1])[0], known[2], force):
        return 0
    base = index_files.newest(place)
    if base is not None:
        whole.add(place / f"{base.number:08d}")
    ends = base.ends if base is not None else {}
    files, new_ends = files_since(folder, space, ends)
    if not _is_due(files, len(base.vectors) if base is not None else 0, force):
        return 0
    made = 0

    def fill(part: Path) -> IndexPlan:
        nonlocal made
        plan, made = write(part, base, files, ends, exact_rows)
        return plan

    number = max((int(old.name) for old in index_files.generations(place)), default=0) + 1
    return made if index_files.add(place, number, new_ends, fill) is not None else 0


def _is_due(files: Sequence[Path], vectors: int, force: bool) -> bool:
    """Whether so many rows came, beside the vectors of the index, that it is made anew."""
    new = sum(pq.read_metadata(file).num_rows for file in files)
    return new > 0 and (vectors == 0 or force or new >= GROWN * vectors)


def write(
    part: Path, base: Generation | None, files: Sequence[Path], ends: Mapping[int, int], exact_rows: int
) -> tuple[IndexPlan, int]:
    """The files of a generation, and how many vectors it has."""
    everything = pa.concat_tables([*([base.keys] if base is not None else []), *keys_of(files, ends)])
    last = last_rows(everything)
    pq.write_table(everything.take(pa.array(last)), part / KEYS, compression="zstd")
    width = base.vectors.shape[1] if base is not None else next(vectors_of(files, ends)).shape[1]
    vectors = np.lib.format.open_memmap(part / VECTORS, "w+", np.float32, (len(last), width))
    at = 0 if base is None else len(base.vectors)
    done = int(np.searchsorted(last, at))
    if base is not None:
        for start in range(0, done, exact_rows):
            vectors[start : min(done, start + exact_rows)] = base.vectors[last[start : min(done, start + exact_rows)]]
    for found in vectors_of(files, ends):  # in the order in which their keys were read
        upto = int(np.searchsorted(last, at + len(found)))
        vectors[done:upto] = found[last[done:upto] - at]
        at, done = at + len(found), upto
    vectors.flush()
    return _index(part, vectors, exact_rows), len(last)


def _index(part: Path, vectors: Floats, exact_rows: int) -> IndexPlan:
    exact = IndexPlan(IndexKind.FLAT, len(vectors))
    kind = IndexKind.FLAT if len(vectors) <= exact_rows else IndexKind.IVF_PQ
    try:
        index = item_index.build(vectors, kind=kind)
    except ModelRefused as refused:
        structlog.get_logger().warning("no index, the vectors are searched one by one", cause=str(refused), vectors=len(vectors))
        return exact
    index.save(part / FAISS)
    return index.plan


class IndexBuilder(Hooks):
    """Refreshes the indexes of a folder on a thread, now and then. What fails is noted in the status of the loop, and tried again."""

    def __init__(self, folder: Path, clock: Clock, every_s: float, background: Background) -> None:
        self._folder, self._clock, self._every_s, self._background = folder, clock, every_s, background
        self._running: Call | None = None
        self._looked_s = float("-inf")
        self._due_s: dict[str, float] = {}  # when a small change is worth an index
        self._whole: set[Path] = set()
        self._trouble = ""
        self._log = structlog.get_logger()
        index_files.sweep(folder / INDEXES)

    def tick(self) -> None:
        if self._running is not None:
            if not self._running.done():
                return
            running, self._running = self._running, None
            try:
                running.result()
                self._trouble = ""
            except Exception as error:  # a full disk, or files that somebody removed
                self._trouble = f"no new index: {type(error).__name__}: {error}"
                self._log.warning("no new index", cause=self._trouble)
        if self._clock.monotonic_s() - self._looked_s >= self._every_s:
            self._looked_s = self._clock.monotonic_s()
            self._running = self._background.submit(self.refresh_all)

    def refresh_all(self) -> None:
        """Raises the first error of a space, after all had their turn."""
        failed: Exception | None = None
        for space in sorted(spaces(self._folder)):
            try:
                self._refresh(space)
            except Exception as error:  # the other spaces get their index
                failed = failed or error
        if failed is not None:
            raise failed

    def _refresh(self, space: str) -> None:
        begun_s = self._clock.monotonic_s()
        n = refresh(self._folder, space, begun_s >= self._due_s.get(space, 0.0), whole=self._whole)
        took_s = self._clock.monotonic_s() - begun_s
        if n:
            self._due_s[space] = begun_s + max(LEAST_PAUSE_S, PAUSE_TIMES * took_s)
            self._log.info("index written", space=space, vectors=n, seconds=round(took_s, 2))

    def report(self) -> Report:
        return Report(notes=[self._trouble] if self._trouble else [])

    def close(self) -> None:
        self._background.close()
