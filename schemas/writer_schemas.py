"""Decides which writers' schemas are accepted for reading, and how much one record may contain. Pure.

The registry accepts schemas from anybody, and counts schemas as compatible that can kill a reader: a field that contains its
own record nests until the stack overflows; an array of items without bytes encodes 2^60 of them in ten bytes; a type that
occurs twice in the next type, thirty levels deep, is a thousand million values. They are refused here, before any byte is read
with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from schemas.avro import Schema, parsed
from schemas.errors import UndecodableRecord

MOST_VALUES = 65_536  # per record: numbers, texts, nulls and their containers
MOST_NODES = 10_000  # per schema; each named type counts at every use
MOST_DEPTH = 32  # levels of types
_MOST_JSON_DEPTH = 4 * MOST_DEPTH
_SIZES = {"null": 0, "boolean": 1, "int": 1, "long": 1, "float": 4, "double": 8, "bytes": 1, "string": 1}


@dataclass(frozen=True)
class Writer:
    """A schema that is accepted for reading. nodes: number of values in a record whose arrays and maps are empty. item_nodes:
    maximum number of values in one item of any array or map; each item takes at least one byte. 0 if there is no array or map."""

    schema: Schema
    whole: Any  # as parsed by fastavro
    named: dict[str, Any]
    nodes: int
    item_nodes: int

    def check(self, body: bytes, most_values: int) -> None:
        """Raises UndecodableRecord if the body contains more than the permitted values; most bodies are too short for that."""
        if self.nodes + self.item_nodes * len(body) > most_values:
            _Count(self.named, body, most_values).walk(self.whole, 0)

    @cached_property
    def plain(self) -> Schema:
        """The unchanged schema if it has no logical types, otherwise the schema without them: a column contains the written
        values."""
        stripped = _without_logical(self.schema)
        return self.schema if stripped == self.schema else stripped


_checked: dict[int, tuple[Schema, Writer | UndecodableRecord]] = {}


def writer_of(schema: Any) -> Writer:
    """The check of a schema object, created once for each. Raises UndecodableRecord if the schema is not accepted."""
    held = _checked.get(id(schema))
    if held is None:
        try:
            held = schema, _measured(schema)
        except UndecodableRecord as refused:
            held = schema, refused
        _checked[id(schema)] = held
    if isinstance(held[1], UndecodableRecord):
        raise held[1]
    return held[1]


def _measured(schema: Any) -> Writer:
    _check_depth(schema, _MOST_JSON_DEPTH)
    try:
        whole = parsed(schema)
    except Exception as error:  # fastavro raises many kinds of errors for an invalid schema
        raise UndecodableRecord(f"its schema is not one of Avro: {type(error).__name__} {error}") from error
    if not isinstance(whole, dict) or whole.get("type") != "record":
        raise UndecodableRecord("its schema is not of a record")
    measure = _Measure(whole.get("__named_schemas", {}))
    nodes = measure.of(whole).nodes
    if max(nodes, measure.item_nodes) > MOST_NODES:
        raise UndecodableRecord(f"its schema has more than {MOST_NODES} values where each type is written out")
    return Writer(schema, whole, measure.named, nodes, measure.item_nodes)


def _check_depth(schema: Any, left: int) -> None:
    if left == 0:
        raise UndecodableRecord(f"its schema is nested more than {_MOST_JSON_DEPTH} levels of JSON deep")
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _check_depth(inner, left - 1)


@dataclass(frozen=True, slots=True)
class _Size:
    """The size of a type whose arrays and maps are empty. depth: levels, including those through arrays."""

    nodes: int = 1
    fewest_bytes: int = 0
    depth: int = 1


class _Measure:
    """named: every named type of the schema as parsed by fastavro, which writes references as full names."""

    def __init__(self, named: dict[str, Any]) -> None:
        self.named = named
        self.item_nodes = 0
        self._known: dict[str, _Size] = {}
        self._open: set[str] = set()

    def of(self, kind: Any) -> _Size:
        """Raises UndecodableRecord."""
        size = self._of(kind)
        if size.depth > MOST_DEPTH:
            raise UndecodableRecord(f"its schema is nested more than {MOST_DEPTH} levels deep")
        return size

    def _of(self, kind: Any) -> _Size:
        match kind:
            case list():
                inner = [self.of(branch) for branch in kind]
                fewest = min((one.fewest_bytes for one in inner), default=0)
                return _Size(max((one.nodes for one in inner), default=1), 1 + fewest, _deeper(inner))
            case {"type": "array", "items": items} | {"type": "map", "values": items}:
                item = self.of(items)
                if item.fewest_bytes == 0 and kind["type"] == "array":
                    raise UndecodableRecord("its schema has an array whose items take no bytes")
                self.item_nodes = max(self.item_nodes, item.nodes)
                return _Size(1, 1, _deeper([item]))
            case {"type": "record" | "error", "name": name, "fields": fields}:
                return self._record(name, fields)
            case {"type": "enum"}:
                return _Size(1, 1)
            case {"type": "fixed", "size": size}:
                return _Size(1, int(size))
            case {"type": inner}:
                return self.of(inner)
            case str() if kind in _SIZES:
                return _Size(1, _SIZES[kind])
            case str() if kind in self.named:
                return self.of(self.named[kind])
            case _:
                raise UndecodableRecord(f"its schema names a type {kind!r:.60} that is not there")

    def _record(self, name: str, fields: list[Any]) -> _Size:
        if name in self._open:
            raise UndecodableRecord(f"its schema is recursive: {name} holds itself")
        if name not in self._known:
            self._open.add(name)
            inner = [self.of(field["type"]) for field in fields]
            self._open.remove(name)
            self._known[name] = _Size(1 + sum(one.nodes for one in inner), sum(one.fewest_bytes for one in inner), _deeper(inner))
        return self._known[name]


def _deeper(inner: list[_Size]) -> int:
    return 1 + max((one.depth for one in inner), default=0)


class _Count:
    """Walks over one body and counts its values, without keeping any of them."""

    def __init__(self, named: dict[str, Any], body: bytes, most: int) -> None:
        self._named, self._body, self._most, self._left = named, body, most, most

    def walk(self, kind: Any, at: int) -> int:
        """The end of the value that begins at `at`. Raises UndecodableRecord."""
        self._spend(1)
        match kind:
            case list():
                branch, at = self._varint(at)
                if not 0 <= branch < len(kind):
                    raise UndecodableRecord(f"a union of {len(kind)} types has no branch {branch}")
                return self.walk(kind[branch], at)
            case {"type": "array", "items": items}:
                return self._items(items, at, keyed=False)
            case {"type": "map", "values": items}:
                return self._items(items, at, keyed=True)
            case {"type": "record" | "error", "fields": fields}:
                for field in fields:
                    at = self.walk(field["type"], at)
                return at
            case {"type": "enum"}:
                return self._varint(at)[1]
            case {"type": "fixed", "size": size}:
                return at + int(size)
            case {"type": inner}:
                self._left += 1
                return self.walk(inner, at)
            case "bytes" | "string":
                length, at = self._varint(at)
                if not 0 <= length <= len(self._body) - at:
                    raise UndecodableRecord("a text or byte string passes the end of the record")
                return at + length
            case "int" | "long":
                return self._varint(at)[1]
            case str() if kind in _SIZES:
                return at + _SIZES[kind]
            case _:
                self._left += 1
                return self.walk(self._named[kind], at)

    def _items(self, kind: Any, at: int, *, keyed: bool) -> int:
        while True:
            count, at = self._varint(at)
            if count == 0:
                return at
            if count < 0:
                _, at = self._varint(at)  # the block's size in bytes, for readers that skip it
            if abs(count) > self._left:
                self._spend(abs(count))
            for _ in range(abs(count)):
                at = self.walk(kind, self.walk("string", at) if keyed else at)

    def _spend(self, values: int) -> None:
        self._left -= values
        if self._left < 0:
            raise UndecodableRecord(f"the record holds more than {self._most} values")

    def _varint(self, at: int) -> tuple[int, int]:
        value = shift = 0
        while at < len(self._body) and shift < 70:
            byte = self._body[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1), at
            shift += 7
        raise UndecodableRecord("a number passes the end of the record")


def _without_logical(kind: Any) -> Any:
    match kind:
        case list():
            return [_without_logical(one) for one in kind]
        case {"type": str(inner), "logicalType": _} if inner in _SIZES:
            return inner
        case dict():
            return {
                name: _without_logical(value) if name in ("type", "items", "values", "fields") else value
                for name, value in kind.items()
                if name != "logicalType"
            }
        case _:
            return kind
