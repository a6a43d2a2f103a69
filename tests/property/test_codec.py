"""The codec against fastavro, on random schemas' worth of random rows: same values, same bytes, same refusals."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import avro
from schemas.columns import Slices
from schemas.decoding import decode, is_flat
from schemas.encoding import Constant, encode
from schemas.varints import read_varints, varint, varints

FLAT: dict[str, Any] = {
    "type": "record",
    "name": "Flat",
    "namespace": "test",
    "fields": [
        {"name": "s", "type": "string"},
        {"name": "b", "type": "bytes"},
        {"name": "ns", "type": ["null", "string"]},
        {"name": "i", "type": "int"},
        {"name": "l", "type": "long"},
        {"name": "f", "type": "float"},
        {"name": "d", "type": "double"},
        {"name": "t", "type": "boolean"},
        {"name": "nb", "type": ["null", "bytes"]},
    ],
}
LONG = st.integers(-(2**63), 2**63 - 1)
ROW = st.fixed_dictionaries(
    {
        "s": st.text(),
        "b": st.binary(),
        "ns": st.none() | st.text(),
        "i": st.integers(-(2**31), 2**31 - 1),
        "l": LONG,
        "f": st.floats(width=32, allow_nan=False),
        "d": st.floats(allow_nan=False),
        "t": st.booleans(),
        "nb": st.none() | st.binary(),
    }
)


def by_fastavro(row: dict[str, Any]) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, avro.parsed(FLAT), row)
    return out.getvalue()


def as_rows(columns: Any) -> list[dict[str, Any]]:
    texts = {"s", "ns"}
    lists = {
        name: (column.to_text() if name in texts else column.to_bytes()) if isinstance(column, Slices) else column.tolist()
        for name, column in columns.fields.items()
    }
    return [{name: lists[name][i] for name in lists} for i in range(columns.n)]


@given(st.lists(ROW, min_size=1, max_size=40))
def test_columns_encode_to_the_bytes_that_fastavro_writes(rows: list[dict[str, Any]]) -> None:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert encode(columns, len(rows), FLAT) == [by_fastavro(row) for row in rows]


@given(st.lists(ROW, min_size=1, max_size=40))
def test_what_fastavro_writes_decodes_to_the_same_values_in_both_ways(rows: list[dict[str, Any]]) -> None:
    bodies = [by_fastavro(row) for row in rows]
    for given_bodies in (bodies, bodies * 12):  # few rows go one by one, many by the column
        columns, failures = decode(given_bodies, FLAT, FLAT)
        assert not failures
        assert as_rows(columns)[: len(rows)] == rows


@given(st.lists(ROW, min_size=20, max_size=40), st.data())
def test_bad_rows_are_found_and_the_good_ones_are_read(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    bodies = [by_fastavro(row) for row in rows]
    bad = data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1, max_size=5))
    for row in bad:
        cut = data.draw(st.integers(0, len(bodies[row]) - 1))
        bodies[row] = data.draw(st.sampled_from([bodies[row][:cut], bodies[row] + b"\0", b"\xff" * 12]))
    columns, failures = decode(bodies, FLAT, FLAT)
    assert set(failures) == bad
    assert as_rows(columns) == [row for i, row in enumerate(rows) if i not in bad]


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=60), min_size=12, max_size=40))
def test_random_bytes_never_raise(bodies: list[bytes]) -> None:
    columns, failures = decode(bodies, FLAT, FLAT)
    assert columns.n + len(failures) == len(bodies)


@given(st.lists(LONG, min_size=1, max_size=50))
def test_varints_are_read_as_written(values: list[int]) -> None:
    pieces = varints(np.array(values, np.int64))
    assert pieces == [varint(value) for value in values]
    buffer = np.frombuffer(b"".join(pieces) + bytes(16), np.uint8)
    starts = np.cumsum([0, *map(len, pieces)])[:-1]
    read, after = read_varints(buffer, starts)
    assert read.tolist() == values
    assert (after - starts).tolist() == list(map(len, pieces))


def test_what_is_the_same_for_all_rows_is_written_once_and_defaults_fill_the_rest() -> None:
    schema = avro.schema("content")
    made = encode({"content_id": ["a", "b"], "text": Constant("t")}, 2, schema)
    assert [fastavro.schemaless_reader(BytesIO(body), avro.parsed(schema), None) for body in made] == [
        {"content_id": name, "text": "t", "author_id": None, "kind": None, "images": [], "video": None} for name in "ab"
    ]


def test_only_flat_records_go_by_the_column() -> None:
    assert is_flat(FLAT)
    assert is_flat(avro.schema("content"))
    assert not is_flat(avro.schema("swap-ack") | {"fields": [{"name": "m", "type": {"type": "map", "values": "int"}}]})


@given(st.lists(st.tuples(st.text(max_size=8), st.booleans(), st.booleans()), min_size=13, max_size=40))
def test_nested_values_are_read_wherever_one_is_there(rows: list[tuple[str, bool, bool]]) -> None:
    schema = avro.schema("content")
    media = {"data": b"\x00x", "uri": None, "sha256": None, "size": None}
    records = [
        {
            "content_id": text,
            "text": None,
            "author_id": text,
            "kind": None,
            "images": [media] * image,
            "video": media if video else None,
        }
        for text, image, video in rows
    ]
    bodies = encode({name: [record[name] for record in records] for name in records[0]}, len(records), schema)
    columns, failures = decode(bodies, schema, schema)
    assert not failures
    assert columns.nested("images") == [record["images"] for record in records]
    assert columns.nested("video") == [record["video"] for record in records]
    assert columns.text("author_id") == [text for text, _, _ in rows]


@given(st.integers(0, 5), st.integers(0, 7), st.sampled_from(["float", "double"]))
def test_rows_of_an_array_are_written_as_lists_of_numbers(n: int, width: int, item: str) -> None:
    schema = {"type": "record", "name": "Vector", "fields": [{"name": "v", "type": {"type": "array", "items": item}}]}
    values = np.random.default_rng(n * 8 + width).standard_normal((n, width)).astype(np.float32)
    expected = encode({"v": values.tolist()}, n, schema)
    assert encode({"v": values}, n, schema) == expected
