"""The data of a produce form: a valid example for any Avro schema, and a record from the values that a person typed. Pure
except for the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import avro
from schemas.codec import write_any
from schemas.errors import InvalidRequest, UndecodableRecord
from schemas.json_fit import DEEPEST, names_of, problems
from schemas.writer_schemas import writer_of
from streams.schema_registry import Registry

_LOGICAL: dict[str, Any] = {
    "timestamp-millis": 1_764_000_000_000,
    "timestamp-micros": 1_764_000_000_000_000,
    "local-timestamp-millis": 1_764_000_000_000,
    "date": 20_417,
    "time-millis": 43_200_000,
    "time-micros": 43_200_000_000,
    "uuid": "01936b1e-7d2c-7a10-8f00-0a1b2c3d4e5f",
}
_PLAIN: dict[str, Any] = {
    "null": None,
    "boolean": True,
    "int": 1,
    "long": 1,
    "float": 0.5,
    "double": 0.5,
    "bytes": "",
    "string": "text",
}


def example(schema: Any) -> Any:
    """A JSON value that fits the schema: the first branch of a union that is not null, one entry of a list. A type that
    contains itself ends with null or an empty list."""
    return _example(schema, names_of(schema), ())


def _example(kind: Any, names: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    match kind:
        case list():
            branches = [branch for branch in kind if branch != "null"]
            if not branches or ("null" in kind and (len(inside) > DEEPEST or _name(branches[0]) in inside)):
                return None
            return _example(branches[0], names, inside)
        case str() if kind in names:
            return _example(names[kind], names, inside)
        case str():
            return _PLAIN.get(kind)
        case {"type": "fixed", "size": size}:
            return "\x00" * size
        case {"logicalType": logical} if logical in _LOGICAL:
            return _LOGICAL[logical]
        case {"logicalType": "decimal"}:
            return "\x01"
        case {"type": "record", "name": name, "fields": fields}:
            return {field["name"]: _example(field["type"], names, (*inside, name)) for field in fields}
        case {"type": "array", "items": items}:
            return [] if _name(items) in inside else [_example(items, names, inside)]
        case {"type": "map", "values": values}:
            return {} if _name(values) in inside else {"name": _example(values, names, inside)}
        case {"type": "enum", "symbols": symbols}:
            return symbols[0]
        case {"type": inner}:
            return _example(inner, names, inside)
        case _:
            return None


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else str(kind.get("name", "")) if isinstance(kind, Mapping) else ""


def encoded(ids: Registry, subject: str, value: Any) -> bytes:
    """A record in Avro's JSON encoding, encoded with the newest schema of its subject. Raises InvalidRequest with every field
    that does not fit."""
    newest = ids.newest(subject)
    if newest is None:
        raise InvalidRequest(f"the registry has no subject {subject}: what this topic holds is not known")
    _, schema_id, schema = newest
    wrong = problems(value, schema)
    if wrong:
        raise InvalidRequest("; ".join(wrong[:8]))
    try:
        plain = writer_of(schema).plain
        return write_any(avro.from_json(value, plain), plain, schema_id)
    except UndecodableRecord as error:
        raise InvalidRequest(f"no record can be written that readers take: {error}") from error
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"the record does not fit its schema: {error}") from error
