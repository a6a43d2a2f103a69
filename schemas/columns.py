"""Columns: the values of one field for all rows of a batch.

A number field is a numpy array, a text or bytes field is `Slices`, anything nested is a list of Python values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import InvalidRequest

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Slices:
    """n texts or byte strings in one buffer, none of which is copied until requested.

    starts, ends: int64, shape (n,). valid: bool, shape (n,), or None if no row is null. is_text: as in the schema.
    """

    buffer: bytes
    starts: Ints
    ends: Ints
    valid: npt.NDArray[np.bool_] | None = None
    is_text: bool = True

    @classmethod
    def of(cls, values: Sequence[bytes | None], *, is_text: bool = True) -> Slices:
        lengths = np.fromiter((0 if value is None else len(value) for value in values), np.int64, len(values))
        ends = np.cumsum(lengths)
        valid = None
        if any(value is None for value in values):
            valid = np.fromiter((value is not None for value in values), np.bool_, len(values))
        return cls(b"".join(value for value in values if value is not None), ends - lengths, ends, valid, is_text)

    def __len__(self) -> int:
        return len(self.starts)

    def to_bytes(self) -> list[bytes | None]:
        buffer = self.buffer
        pieces: list[bytes | None] = [
            buffer[start:end] for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True)
        ]
        if self.valid is not None:
            pieces = [piece if there else None for piece, there in zip(pieces, self.valid.tolist(), strict=True)]
        return pieces

    def to_text(self) -> list[str | None]:
        """Raises UnicodeDecodeError if bytes are not UTF-8."""
        return [None if piece is None else piece.decode() for piece in self.to_bytes()]

    def matrix(self, dtype: str, width: int) -> Array:
        """Rows as an array of shape (n, width) of `dtype`. Raises InvalidRequest if a row has another length."""
        size = np.dtype(dtype).itemsize * width
        lengths = self.ends - self.starts
        if (self.valid is not None and not self.valid.all()) or (lengths != size).any():
            row = int(np.argmax(lengths != size))
            raise InvalidRequest(f"row {row} has {int(lengths[row])} bytes; {width} values of {dtype} take {size}")
        joined = b"".join(piece for piece in self.to_bytes() if piece is not None)
        found: Array = np.frombuffer(joined, dtype).reshape(-1, width)
        return found

    def take(self, rows: Ints) -> Slices:
        valid = None if self.valid is None else self.valid[rows]
        return Slices(self.buffer, self.starts[rows], self.ends[rows], valid, self.is_text)


Column = Array | Slices | list[Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """All fields of n rows, one column per field."""

    n: int
    fields: Mapping[str, Column]

    def text(self, name: str) -> list[str | None]:
        column = self.fields[name]
        assert isinstance(column, Slices)
        return column.to_text()

    def nested(self, name: str) -> list[Any]:
        """Values of an array or record field as Python objects."""
        column = self.fields[name]
        assert isinstance(column, list)
        return column

    def numbers(self, name: str) -> list[int]:
        column = self.fields[name]
        assert isinstance(column, np.ndarray)
        found: list[int] = column.tolist()
        return found

    def records(self) -> list[dict[str, Any]]:
        """One dictionary per row: for streams with few or nested records."""
        values: dict[str, list[Any]] = {}
        for name, column in self.fields.items():
            match column:
                case Slices():
                    values[name] = list(column.to_text() if column.is_text else column.to_bytes())
                case list():
                    values[name] = column
                case _:
                    values[name] = column.tolist()
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]

    def take(self, rows: Sequence[int]) -> Columns:
        picked = np.asarray(rows, np.int64)
        fields: dict[str, Column] = {}
        for name, column in self.fields.items():
            match column:
                case Slices():
                    fields[name] = column.take(picked)
                case list():
                    fields[name] = [column[row] for row in rows]
                case _:
                    fields[name] = column[picked]
        return Columns(len(rows), fields)

    def matrix(self, name: str, dtype: str, width: int) -> Array:
        """A column of bytes as an array of shape (n, width) of `dtype`. See `Slices.matrix`."""
        column = self.fields[name]
        assert isinstance(column, Slices)
        return column.matrix(dtype, width)


def to_column(values: list[Any], kind: Any) -> Column:
    """Python values of one field as the column that corresponds to its Avro type, of shape (n,): int64, float64 or bool, else `Slices` or
    a list."""
    match kind:
        case "string" | ["null", "string"]:
            return Slices.of([None if value is None else value.encode() for value in values])
        case "bytes" | ["null", "bytes"]:
            return Slices.of(values, is_text=False)
        case "int" | "long":
            return np.array(values, np.int64)
        case "float":
            return np.array(values, np.float32)
        case "double":
            return np.array(values, np.float64)
        case "boolean":
            return np.array(values, np.bool_)
        case _:
            return values
