"""Decodes the Avro bodies of a whole batch to columns, with a few numpy calls per field.

Reading record by record costs at least one Python call per field; here one field of all n records is read at once: each record
has a cursor into the one buffer that contains them all. This works for flat records only (numbers, text, bytes, these or null,
and absent nested fields). Other records, and small batches, go through fastavro one by one with the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt

from schemas.avro import parsed
from schemas.columns import Column, Columns, Ints, Slices, to_column
from schemas.errors import UndecodableRecord
from schemas.varints import read_varints
from schemas.writer_schemas import MOST_VALUES, writer_of

_FIXED = {"float": ("<f4", 4), "double": ("<f8", 8)}
_SMALL = 12  # below this number of rows one call per record is cheaper (measured by `bench worker`)
_PADDING = bytes(16)  # so that a varint at the very end can be read without a bounds check
Failures = dict[int, UndecodableRecord]


def is_flat(schema: dict[str, Any]) -> bool:
    """True if every field can be read by column. Arrays and optional records can be read by column only while they are absent."""
    flat = {"string", "bytes", "int", "long", "float", "double", "boolean"}
    return all((isinstance(kind, str) and kind in flat) or _nullable(kind) or _may_be_absent(kind) for kind in _kinds(schema))


def _kinds(schema: dict[str, Any]) -> list[Any]:
    return [field["type"] for field in schema["fields"]]


def _nullable(kind: Any) -> bool:
    return kind in (["null", "string"], ["null", "bytes"])


def _may_be_absent(kind: Any) -> bool:
    """An array (empty) or an optional record (null): one zero byte if it is absent."""
    match kind:
        case {"type": "array"} | ["null", {"type": "record"}]:
            return True
        case _:
            return False


class _NotAbsent(Exception):
    """A nested value is present: the batch is read record by record."""


def decode(
    bodies: Sequence[bytes], writer: dict[str, Any], reader: dict[str, Any], most_values: int = MOST_VALUES
) -> tuple[Columns, Failures]:
    """Columns of the good rows, in order, and the error of each bad row by its index in `bodies`. most_values: per row."""
    if len(bodies) >= _SMALL and writer == reader and is_flat(writer):
        try:
            columns, bad = _by_column(bodies, writer)
        except _NotAbsent:
            return _by_row(bodies, writer, reader, most_values)
        if not bad:
            return columns, {}
        # Rare, so there is no fast path: read the good rows alone, and get the error messages from fastavro.
        failures = {row: _why(bodies[row], writer) for row in bad}
        good = [body for row, body in enumerate(bodies) if row not in failures]
        return decode(good, writer, reader, most_values)[0], failures
    return _by_row(bodies, writer, reader, most_values)


def decode_one(body: bytes, writer: dict[str, Any], reader: dict[str, Any], most_values: int = MOST_VALUES) -> dict[str, Any]:
    """One record as a dictionary. Raises UndecodableRecord, also if it has more than most_values values or its writer's schema
    is not accepted (`schemas.writer_schemas`)."""
    writer_of(writer).check(body, most_values)
    source = BytesIO(body)
    try:
        record = fastavro.schemaless_reader(source, parsed(writer), parsed(reader))
    except Exception as error:  # fastavro raises many kinds of errors for bytes that do not match the schema
        raise UndecodableRecord(f"not a {writer['name']}: {type(error).__name__} {error}".rstrip()) from error
    if source.tell() != len(body):
        raise UndecodableRecord(f"{len(body) - source.tell()} bytes are left after the {writer['name']}")
    assert isinstance(record, dict)
    for name, kind in _with_ints(reader):
        if not _fits(record[name], kind):
            raise UndecodableRecord(f"a number of {name} is no int of 32 bits")
    return record


_ints: dict[int, tuple[Any, list[tuple[str, Any]]]] = {}


def _with_ints(schema: dict[str, Any]) -> list[tuple[str, Any]]:
    """Fields that contain an int at any depth, with their types. A varint holds 64 bits whatever the schema declares, and
    fastavro returns all of them."""
    held = _ints.get(id(schema))
    if held is None:
        whole = parsed(schema)
        held = _ints[id(schema)] = (
            schema,
            [(field["name"], field["type"]) for field in whole["fields"] if _holds_int(field["type"])],
        )
    return held[1]


def _holds_int(kind: Any) -> bool:
    match kind:
        case list():
            return any(map(_holds_int, kind))
        case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
            return _holds_int(inner)
        case {"type": "record", "fields": fields}:
            return any(_holds_int(field["type"]) for field in fields)
        case {"type": inner}:
            return _holds_int(inner)
        case _:
            return bool(kind == "int")


def _fits(value: Any, kind: Any) -> bool:
    """Values of the other branches of a union are not checked."""
    match kind:
        case "int":
            return not isinstance(value, int) or -(2**31) <= value < 2**31
        case list():
            return "long" in kind or value is None or all(_fits(value, branch) for branch in kind if _holds_int(branch))
        case {"type": "array", "items": items}:
            return not isinstance(value, list) or all(_fits(one, items) for one in value)
        case {"type": "map", "values": items}:
            return not isinstance(value, dict) or all(_fits(one, items) for one in value.values())
        case {"type": "record", "fields": fields}:
            return not isinstance(value, dict) or all(
                _fits(value[field["name"]], field["type"]) for field in fields if field["name"] in value
            )
        case {"type": inner} if inner != "enum":
            return _fits(value, inner)
        case _:
            return True


def _why(body: bytes, writer: dict[str, Any]) -> UndecodableRecord:
    try:
        decode_one(body, writer, writer)
    except UndecodableRecord as error:
        return error
    return UndecodableRecord(f"not a {writer['name']}: a value passes the end of the record or is not of its type")


def _by_row(
    bodies: Sequence[bytes], writer: dict[str, Any], reader: dict[str, Any], most_values: int
) -> tuple[Columns, Failures]:
    records: list[dict[str, Any]] = []
    failures: Failures = {}
    for row, body in enumerate(bodies):
        try:
            records.append(decode_one(body, writer, reader, most_values))
        except UndecodableRecord as error:
            failures[row] = error
    fields: dict[str, Column] = {
        field["name"]: to_column([record[field["name"]] for record in records], field["type"]) for field in reader["fields"]
    }
    return Columns(len(records), fields), failures


def _by_column(bodies: Sequence[bytes], schema: dict[str, Any]) -> tuple[Columns, list[int]]:
    """Columns, and the rows that do not match the schema: if there are any, the columns are meaningless."""
    joined = b"".join(bodies)
    buffer = np.frombuffer(joined + _PADDING, np.uint8)
    limits = np.cumsum(np.fromiter(map(len, bodies), np.int64, len(bodies)))
    cursor = np.empty_like(limits)
    cursor[0] = 0
    cursor[1:] = limits[:-1]
    bad = np.zeros(len(bodies), np.bool_)
    fields: dict[str, Column] = {}
    for field in schema["fields"]:
        fields[field["name"]], cursor = _read(field["type"], joined, buffer, cursor, limits, bad)
        over = cursor > limits
        if over.any():
            bad |= over
            cursor = np.minimum(cursor, limits)
    bad |= cursor != limits
    return Columns(len(bodies), fields), np.flatnonzero(bad).tolist()


def _read(
    kind: Any, joined: bytes, buffer: npt.NDArray[np.uint8], cursor: Ints, limits: Ints, bad: npt.NDArray[np.bool_]
) -> tuple[Column, Ints]:
    """One field of all rows: its column, and the cursors after it."""
    match kind:
        case "string" | "bytes":
            return _read_slices(joined, buffer, cursor, limits, bad, None, kind == "string")
        case {"type": "array"} | ["null", {"type": "record"}]:
            if buffer[np.minimum(cursor, len(joined))].any():
                raise _NotAbsent
            absent: list[Any] = [[] if isinstance(kind, dict) else None for _ in range(len(cursor))]
            return absent, cursor + 1
        case ["null", _]:
            branch, cursor = read_varints(buffer, cursor)
            bad |= (branch != 0) & (branch != 1)
            return _read_slices(joined, buffer, cursor, limits, bad, branch == 1, "string" in kind)
        case "int" | "long":
            values, cursor = read_varints(buffer, cursor)
            if kind == "int":
                bad |= (values < -(2**31)) | (values >= 2**31)
            return values, cursor
        case "boolean":
            flags = buffer[cursor]
            bad |= flags > 1
            return flags.astype(np.bool_), cursor + 1
        case _:
            dtype, size = _FIXED[kind]
            at = np.minimum(cursor, len(joined))[:, None] + np.arange(size)
            return buffer[at].view(dtype).reshape(-1), cursor + size


def _read_slices(
    joined: bytes,
    buffer: npt.NDArray[np.uint8],
    cursor: Ints,
    limits: Ints,
    bad: npt.NDArray[np.bool_],
    valid: npt.NDArray[np.bool_] | None,
    is_text: bool,
) -> tuple[Slices, Ints]:
    lengths, starts = read_varints(buffer, cursor)
    if valid is not None:
        lengths = np.where(valid, lengths, 0)
        starts = np.where(valid, starts, cursor)
    wrong = (lengths < 0) | (lengths > limits - starts)
    if wrong.any():
        bad |= wrong
        lengths = np.where(wrong, 0, lengths)
    ends = starts + lengths
    every = valid is None or bool(valid.all())
    return Slices(joined, starts, ends, None if every else valid, is_text), ends
