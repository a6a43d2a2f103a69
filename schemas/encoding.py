"""Encodes columns to Avro bodies, field by field: a value that is the same for all rows is encoded once.

Every field becomes one piece of bytes per row, or one piece for all rows; a record is the concatenation of its pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import repeat
from struct import Struct
from typing import Any

import fastavro
import numpy as np

from schemas.avro import parsed
from schemas.columns import Array, Slices
from schemas.varints import varint, varints


@dataclass(frozen=True, slots=True)
class Constant:
    """The same value for every row."""

    value: Any


_FLOAT = Struct("<f")
Input = Constant | Sequence[Any] | Array | Slices
Piece = bytes | list[bytes]


def encode(columns: Mapping[str, Input], n: int, schema: dict[str, Any], head: bytes = b"") -> list[bytes]:
    """n records: `head` and an Avro body each. columns: by field, of shape (n,) each; int64 or float64 for numbers, bool for flags. A
    field that is missing takes its default.

    Raises ValueError if a column without default is missing, a column has another length, or a value does not fit its field.
    """
    unknown = columns.keys() - {field["name"] for field in schema["fields"]}
    if unknown:
        raise ValueError(f"{schema['name']} has no field {', '.join(sorted(unknown))}")
    pieces: list[Piece] = [head]
    for field in schema["fields"]:
        for piece in _encode_field(field, columns, n):
            if isinstance(piece, bytes) and isinstance(pieces[-1], bytes):
                pieces[-1] += piece
            else:
                pieces.append(piece)
    if len(pieces) == 1 and isinstance(pieces[0], bytes):
        return [pieces[0]] * n
    rows: list[Iterable[bytes]] = [repeat(piece, n) if isinstance(piece, bytes) else piece for piece in pieces]
    return list(map(b"".join, zip(*rows, strict=True)))


def _encode_field(field: dict[str, Any], columns: Mapping[str, Input], n: int) -> list[Piece]:
    name, kind = field["name"], field["type"]
    if name not in columns:
        if "default" not in field:
            raise ValueError(f"field {name} has no column and no default")
        return [_one(field["default"], kind)]
    column = columns[name]
    if isinstance(column, Constant):
        return [_one(column.value, kind)]
    if len(column) != n:
        raise ValueError(f"column {name} has {len(column)} values for {n} rows")
    try:
        return _encode_column(kind, column)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"column {name}: {error}") from error


def _encode_column(kind: Any, column: Sequence[Any] | Array | Slices) -> list[Piece]:
    match kind:
        case "string" | "bytes":
            return _encode_bytes(_as_bytes(column))
        case ["null", ("string" | "bytes") as inner]:
            values = column.to_bytes() if isinstance(column, Slices) else column
            if any(value is None for value in values):
                return [[b"\x00" if value is None else b"\x02" + _one(value, inner) for value in values]]
            return [b"\x02", *_encode_bytes(_as_bytes(values))]
        case "int" | "long":
            numbers = np.asarray(column, np.int64)
            if len(numbers) and (numbers == numbers[0]).all():
                return [varint(int(numbers[0]))]
            return [varints(numbers)]
        case "boolean":
            return [[b"\x01" if value else b"\x00" for value in np.asarray(column).tolist()]]
        case "float":
            return [_cut(np.asarray(column, "<f4"), 4)]
        case "double":
            return [_cut(np.asarray(column, "<f8"), 8)]
        case {"type": "array", "items": ("float" | "double") as item} if isinstance(column, np.ndarray) and column.ndim == 2:
            return _vectors(column, "<f4" if item == "float" else "<f8")
        case _:
            assert not isinstance(column, Slices)
            return [[_one(value, kind) for value in column]]


def _vectors(column: Array, dtype: str) -> list[Piece]:
    """column: one row a record. All rows are one Avro block of items, and its end."""
    values = np.asarray(column, dtype)
    if values.shape[1] == 0:
        return [b"\x00"]
    return [varint(values.shape[1]), _cut(values, values.itemsize * values.shape[1]), b"\x00"]


def _as_bytes(column: Sequence[Any] | Array | Slices) -> list[bytes] | Array:
    if isinstance(column, np.ndarray):
        if column.ndim != 2:
            raise ValueError(f"an array for a bytes field has one row a record, not shape {column.shape}")
        return column
    values: Sequence[Any] = column.to_bytes() if isinstance(column, Slices) else column
    return [value.encode() if isinstance(value, str) else bytes(value) for value in values]


def _encode_bytes(values: list[bytes] | Array) -> list[Piece]:
    if isinstance(values, np.ndarray):
        size = values.itemsize * values.shape[1]
        return [varint(size), _cut(values, size)]
    lengths = list(map(len, values))
    if lengths and lengths.count(lengths[0]) == len(lengths):
        return [varint(lengths[0]), values]
    return [list(map(varint, lengths)), values]


def _cut(values: Array, size: int) -> list[bytes]:
    data = np.ascontiguousarray(values).tobytes()
    return [data[at : at + size] for at in range(0, len(data), size)]


def _one(value: Any, kind: Any) -> bytes:
    match kind:
        case "string":
            raw = value if isinstance(value, bytes) else value.encode()
            return varint(len(raw)) + raw
        case "bytes":
            raw = value.encode("latin-1") if isinstance(value, str) else bytes(value)  # a default is in JSON encoding
            return varint(len(raw)) + raw
        case "boolean":
            return b"\x01" if value else b"\x00"
        case "int" | "long":
            return varint(int(value))
        case "float":
            return _FLOAT.pack(value)
        case ["null", *_] if value is None:
            return b"\x00"
        case {"type": "array"} if len(value) == 0:
            return b"\x00"
        case _:
            out = BytesIO()
            fastavro.schemaless_writer(out, parsed(kind), value)
            return out.getvalue()
