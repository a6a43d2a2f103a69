"""The format of one entity's features as one blob. The sink writes blobs; the request path and Feast read them. Pure.

A blob consists of a version in 38 decimal digits (so that Redis can compare two versions as text, in any locale), a head, all
numbers with eight bytes each in the order of the view, and the texts. A reader ignores the blob if its view has other features
than the writer's, because the checksum of the layout differs.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.features import Kind, Value, View

VERSION_BYTES = 38
_HEAD = struct.Struct("<Iqqq")
_FIXED_AT = VERSION_BYTES + _HEAD.size
_HEAD_DTYPE = np.dtype(
    [("version", f"S{VERSION_BYTES}"), ("layout", "<u4"), ("changed_ms", "<i8"), ("valid_until_ms", "<i8"), ("event_ms", "<i8")]
)
FOREVER_MS = 2**62
GRACE_MS = 2_000  # time that a value stays fresh past its `valid_until`, for the sink's own interval


class Freshness(IntEnum):
    """State of the features that were read for one entity."""

    FRESH = 0
    STALE = 1  # a window should have moved meanwhile, or the sink did not rewrite the entity within the view's ttl
    MISSING = 2  # the store has no values of the entity
    UNREACHABLE = 3  # the store did not answer


@dataclass(frozen=True, slots=True)
class EntityValues:
    """One entity's values to write. version: offset in the tiles' partition, then time of the computation; it must increase.
    epoch: number of that offset's topic (`OnlineStore.epoch`), which is higher for a topic that was created anew.

    changed_ms: time for which the values were computed, even if they did not change: the sink recomputes them within a view's
    ttl. valid_until_ms: when the next tile leaves a window. event_ms: time of the last event.
    """

    version: tuple[int, int]
    changed_ms: int
    valid_until_ms: int | None
    event_ms: int
    values: Mapping[str, Value]
    epoch: int = 0


@cache
def _layout(view: View) -> tuple[int, np.dtype[Any], tuple[str, ...]]:
    numbers = [f for f in view.features if f.kind is not Kind.TEXT]
    dtype = np.dtype([(f.name, "<i8" if f.kind is Kind.INT else "<f8") for f in numbers])
    described = ",".join(f"{f.name}:{f.kind.value}" for f in view.features)
    return zlib.crc32(described.encode()), dtype, tuple(f.name for f in view.features if f.kind is Kind.TEXT)


@cache
def _numbers(view: View) -> tuple[struct.Struct, Callable[[Mapping[str, Value]], tuple[Value, ...]]]:
    """The format of a view's numbers, and what picks them out of its values in that order."""
    _, dtype, _ = _layout(view)
    names = dtype.names or ()
    packed = struct.Struct("<" + "".join("q" if dtype[name].kind == "i" else "d" for name in names))
    return packed, itemgetter(*names) if len(names) > 1 else lambda values: tuple(values[name] for name in names)


def pack(view: View, written: EntityValues) -> bytes:
    """Raises KeyError if a feature of the view has no value, ValueError if a value does not fit."""
    layout, _, texts = _layout(view)
    numbers, names = _numbers(view)
    offset, at_ms = written.version
    until_ms = FOREVER_MS if written.valid_until_ms is None else written.valid_until_ms
    try:
        pieces = [
            f"{written.epoch:04d}{offset:020d}{at_ms:014d}".encode(),
            _HEAD.pack(layout, written.changed_ms, until_ms, written.event_ms),
            numbers.pack(*names(written.values)),
        ]
    except struct.error as error:
        raise ValueError(f"a value of {view.name} is not a number of 64 bits: {error}") from error
    if len(pieces[0]) != VERSION_BYTES:
        raise ValueError(f"a version of {view.name} has more than {VERSION_BYTES} digits: {pieces[0].decode()}")
    for name in texts:
        text = str(written.values[name]).encode()[:65_535]
        pieces += [struct.pack("<H", len(text)), text]
    return b"".join(pieces)


@cache
def _table(view: View) -> tuple[np.dtype[Any], dict[str, tuple[int, np.dtype[Any]]], npt.NDArray[np.int64]]:
    """The dtype of a blob's head and its numbers. Of the numbers, in their order: place and dtype by name, and the defaults, int64
    (numbers, 1), with the bits of a float64 where the number is one."""
    _, dtype, _ = _layout(view)
    names = dtype.names or ()
    defaults = np.array(tuple(view.feature(name).default for name in names), dtype).tobytes()
    whole = np.dtype([("head", _HEAD_DTYPE), ("numbers", "<i8", (len(names),))])
    places = {name: (place, dtype[name]) for place, name in enumerate(names)}
    return whole, places, np.frombuffer(defaults, np.int64).reshape(-1, 1)


@dataclass(frozen=True, slots=True)
class ServedFeatures:
    """Values of some features for n entities: one column per feature, with the default if an entity has no value. event_ms,
    changed_ms, valid_until_ms: int64 (n,), 0 if missing. state: int8 (n,), values of Freshness."""

    values: Mapping[str, npt.NDArray[Any] | list[str]]
    event_ms: npt.NDArray[np.int64]
    changed_ms: npt.NDArray[np.int64]
    valid_until_ms: npt.NDArray[np.int64]
    state: npt.NDArray[np.int8]

    def take(self, rows: Sequence[int]) -> ServedFeatures:
        at = np.asarray(rows, np.int64)
        values: dict[str, npt.NDArray[Any] | list[str]] = {
            name: [column[row] for row in rows] if isinstance(column, list) else column[at]
            for name, column in self.values.items()
        }
        return ServedFeatures(values, self.event_ms[at], self.changed_ms[at], self.valid_until_ms[at], self.state[at])

    def defaulted(self, view: View, rows: npt.NDArray[np.bool_]) -> ServedFeatures:
        """These values, with the features' defaults in some rows. rows: bool (n,)."""
        values: dict[str, npt.NDArray[Any] | list[str]] = {}
        for name, column in self.values.items():
            default = view.feature(name).default
            if isinstance(column, list):
                values[name] = [str(default) if gone else value for value, gone in zip(column, rows.tolist(), strict=True)]
            else:
                values[name] = np.where(rows, np.array(default, column.dtype), column)
        return ServedFeatures(values, self.event_ms, self.changed_ms, self.valid_until_ms, self.state)


def unpack(view: View, blobs: Sequence[bytes | None], names: Sequence[str], now_ms: int, grace_ms: int) -> ServedFeatures:
    """grace_ms: how long a value counts as fresh past its `valid_until`, for the sink's own interval. A blob with another layout
    counts as missing, because its writer has another version of the view."""
    layout, dtype, texts = _layout(view)
    n, end = len(blobs), _FIXED_AT + dtype.itemsize
    present = np.fromiter((blob is not None and len(blob) >= end for blob in blobs), np.bool_, n)
    rows = np.flatnonzero(present)
    fixed = b"".join([blob[:end] for blob in blobs if blob is not None and len(blob) >= end])
    whole_dtype, places, defaults = _table(view)
    whole = np.frombuffer(fixed, whole_dtype)
    good = whole["head"]["layout"] == layout
    rows, whole = rows[good], whole[good]
    state = np.full(n, Freshness.MISSING, np.int8)
    times = {name: np.zeros(n, np.int64) for name in ("event_ms", "changed_ms", "valid_until_ms")}
    for name, column in times.items():
        column[rows] = whole["head"][name]
    fresh = (times["valid_until_ms"][rows] + grace_ms > now_ms) & (times["changed_ms"][rows] + view.ttl_ms > now_ms)
    state[rows] = np.where(fresh, Freshness.FRESH, Freshness.STALE)
    table = np.repeat(defaults, n, axis=1)  # all numbers at once: a call for each of 50 would cost more than reading them
    table[:, rows] = whole["numbers"].T
    values: dict[str, npt.NDArray[Any] | list[str]] = {}
    for name in names:
        if name in places:
            place, kind = places[name]
            values[name] = table[place].view(kind)
        else:
            values[name] = _texts(blobs, rows, end, texts.index(name), str(view.feature(name).default))
    return ServedFeatures(values, times["event_ms"], times["changed_ms"], times["valid_until_ms"], state)


def _texts(blobs: Sequence[bytes | None], rows: npt.NDArray[Any], start: int, which: int, default: str) -> list[str]:
    texts = [default] * len(blobs)
    for row in rows.tolist():
        blob, at = blobs[row] or b"", start
        for _ in range(which):
            at += 2 + int.from_bytes(blob[at : at + 2], "little")
        length = int.from_bytes(blob[at : at + 2], "little")
        texts[row] = blob[at + 2 : at + 2 + length].decode(errors="replace")
    return texts
