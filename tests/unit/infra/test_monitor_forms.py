"""What people type into the monitor: records by their schema, and filters."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.monitor import forms
from infra.monitor.plain import WHOLE_CHARS, as_json, plain
from infra.monitor.reading.record_filter import Message, filter_of
from infra.records import decoded_one
from schemas import avro
from schemas.codec import read_any, write_any
from schemas.errors import InvalidRequest
from schemas.json_fit import problems
from schemas.writer_schemas import writer_of
from streams.rows import Polled
from streams.schema_registry import MemoryRegistry

# --- forms --------------------------------------------------------------------------------------------------------------

ODD: dict[str, Any] = {
    "recursive": {
        "type": "record",
        "name": "Node",
        "fields": [
            {"name": "value", "type": "int"},
            {"name": "next", "type": ["null", "Node"]},
            {"name": "children", "type": {"type": "array", "items": "Node"}},
        ],
    },
    "logical": {
        "type": "record",
        "name": "L",
        "fields": [
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
            {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        ],
    },
    "money": {
        "type": "record",
        "name": "M",
        "namespace": "shop",
        "fields": [
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
            {
                "name": "rate",
                "type": {"type": "fixed", "name": "R", "size": 4, "logicalType": "decimal", "precision": 6, "scale": 3},
            },
            {
                "name": "perhaps",
                "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}],
                "default": None,
            },
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "clock", "type": {"type": "int", "logicalType": "time-millis"}},
            {
                "name": "by",
                "type": [
                    {
                        "type": "record",
                        "name": "Card",
                        "fields": [{"name": "number", "type": "long"}, {"name": "note", "type": "string", "default": ""}],
                    },
                    {
                        "type": "record",
                        "name": "Cash",
                        "fields": [{"name": "coins", "type": "int"}, {"name": "note", "type": "string", "default": ""}],
                    },
                ],
            },
            {
                "name": "more",
                "type": ["null", {"type": "array", "items": ["shop.Cash", "Card", "string", "bytes"]}],
                "default": None,
            },
            {"name": "share", "type": "double"},
            {"name": "big", "type": "long"},
            {"name": "raw", "type": ["bytes", "null"], "default": "\u00ff"},
        ],
    },
    "nested": {
        "type": "record",
        "name": "N",
        "fields": [
            {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["A", "B"]}},
            {"name": "digest", "type": {"type": "fixed", "name": "D", "size": 4}},
            {
                "name": "inner",
                "type": {"type": "map", "values": {"type": "record", "name": "I", "fields": [{"name": "k", "type": "K"}]}},
            },
            {"name": "either", "type": ["null", "string", {"type": "array", "items": "double"}]},
        ],
    },
}


@pytest.mark.parametrize("schema", [*map(avro.schema, avro.record_names()), *ODD.values()], ids=[*avro.record_names(), *ODD])
def test_the_example_of_any_schema_fits_it_and_can_be_written(schema: dict[str, Any]) -> None:
    made = forms.example(schema)
    assert problems(made, schema) == []
    if schema is ODD["recursive"]:
        return  # no reader takes it
    ids = MemoryRegistry()
    assert read_any(_encoded(json.loads(json.dumps(made)), schema, ids), ids)


def _encoded(value: Any, schema: dict[str, Any], ids: MemoryRegistry) -> bytes:
    assert problems(value, schema) == []
    plain = writer_of(schema).plain
    return write_any(avro.from_json(value, plain), plain, ids.register("s", schema))


MONEY = {
    "price": "\x30\x39",
    "rate": "\x00\x00\x01\x02",
    "perhaps": "\xff",
    "at": 1_764_000_000_000_001,
    "clock": 43_200_000,
    "by": {"coins": 3},
    "more": [{"number": 2**63 - 1}, {"coins": -1, "note": "x"}, "text", {"number": 1, "note": "y"}],
    "share": "nan",
    "big": "9007199254740993",
}


@pytest.mark.parametrize(
    ("value", "schema"),
    [(MONEY, ODD["money"]), ({**MONEY, "by": {"number": 4}, "share": 1.5, "perhaps": None, "raw": None}, ODD["money"])]
    + [(example, avro.schema(name)) for name in avro.record_names() for example in avro.examples(name).values()]
    + [(forms.example(schema), schema) for name, schema in ODD.items() if name != "recursive"],
)
def test_a_record_can_be_sent_again_as_it_is_shown(value: dict[str, Any], schema: dict[str, Any]) -> None:
    """Byte for byte, through the JSON of the record's page."""
    ids = MemoryRegistry()
    raw = _encoded(value, schema, ids)
    polled = Polled([("t", 0)], [0], [b""], [raw], [None], [1])
    shown = json.loads(as_json(plain(decoded_one(polled, 0, ids), WHOLE_CHARS)))["value"]
    assert _encoded(shown, schema, ids) == raw


def test_the_branch_of_a_union_is_the_one_that_fits() -> None:
    ids, schema = MemoryRegistry(), ODD["money"]
    found = read_any(_encoded(MONEY, schema, ids), ids)
    assert (found["by"], found["big"], found["raw"]) == ({"coins": 3, "note": ""}, 9007199254740993, b"\xff")
    assert [sorted(one) if isinstance(one, dict) else one for one in found["more"]] == [
        ["note", "number"],
        ["coins", "note"],
        "text",
        ["note", "number"],
    ]
    assert str(found["price"]) == "123.45"
    assert found["share"] != found["share"]
    wrong = {**MONEY, "by": {"nothing": 1}, "big": "9" * 19, "share": "much", "rate": "\x00"}
    assert [one.partition(":")[0].split(".")[0] for one in problems(wrong, schema)] == ["rate", "by", "by", "share", "big"]


def test_what_does_not_fit_is_named_with_its_place() -> None:
    schema = ODD["nested"]
    wrong = {"kind": "C", "digest": "abc", "inner": {"x": {"k": "A", "z": 1}}, "either": 4}
    said = problems(wrong, schema)
    assert any(one.startswith("kind: expected one of A, B") for one in said)
    assert any(one.startswith("digest: expected 4 bytes") for one in said)
    assert any(one.startswith("inner.x.z: there is no such field") for one in said)
    assert any(one.startswith("either: expected") for one in said)
    assert problems({"content_id": "c"}, avro.schema("content")) == []
    assert problems({}, avro.schema("content")) == ["content_id: missing, and there is no default"]
    assert problems({"content_id": True}, avro.schema("content")) == ["content_id: expected a text, not True"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


# Of the record's own field names, so that many fit; the rest has no such field, or a value of another type.
_CONTENT = st.dictionaries(
    st.sampled_from([field["name"] for field in avro.schema("content")["fields"]]) | st.text(max_size=3), _JSON, max_size=2
).flatmap(lambda fields: st.text(max_size=5).map(lambda content_id: {"content_id": content_id} | fields))


@given(_CONTENT | _JSON)
def test_what_the_check_takes_can_be_written(value: Any) -> None:
    schema = avro.schema("content")
    if isinstance(value, dict) and not problems(value, schema):
        ids = MemoryRegistry()
        assert write_any(avro.from_json(value, schema), schema, ids.register("s", schema))


# --- filters ------------------------------------------------------------------------------------------------------------

VALUE = {
    "flagged": True,
    "batch_size": 12,
    "text": "a Free prize",
    "categories": [{"category": "spam", "p": 0.9}, {"category": "hate", "p": 0.1}],
}
RECORD = Message("t", 2, 9, 1, "k-1", {"ce_source": "demo"}, VALUE, 40)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("prize", True),
        ("PRIZE free", True),
        ("prize absent", False),
        ('"free prize"', True),
        ('"prize free"', False),
        ("flagged=true", True),
        ("flagged!=true", False),
        ("batch_size>10", True),
        ("batch_size<=11", False),
        ("categories.category=spam", True),
        ("categories.category=ham", False),
        ("categories.p>0.95", False),
        ("text:free", True),
        ("header.ce_source:demo", True),
        ("header.absent:x", False),
        ("key=k-1", True),
        ("partition=2", True),
        ("nothing=1", False),
        ("", True),
    ],
)
def test_filters(text: str, holds: bool) -> None:
    assert filter_of(text)(RECORD) is holds


def test_a_comparison_with_no_number_says_so() -> None:
    with pytest.raises(InvalidRequest, match="compares numbers"):
        filter_of("batch_size>many")


@given(st.text(max_size=60))
def test_no_filter_breaks(text: str) -> None:
    try:
        filter_of(text)(RECORD)
    except InvalidRequest:
        return


def test_what_json_cannot_hold_becomes_text() -> None:
    assert plain({"a": b"\x00\xff", "b": float("nan"), "c": ["x" * 20_000]}) == {
        "a": "\x00\xff",
        "b": "nan",
        "c": ["x" * 16_384 + "… (3616 more)"],
    }
