"""The Avro schemas in `records/`: one folder per record, one file per version, with examples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import fastavro

from schemas.json_fit import NOT_FINITE, branch_of, names_of, whole

RECORDS = Path(__file__).parent / "records"
FOLDERS = [RECORDS]  # tests and benchmarks add folders with records of their own
Schema = dict[str, Any]


def record_names() -> tuple[str, ...]:
    return tuple(sorted(folder.name for folder in RECORDS.iterdir() if folder.is_dir() and not folder.name.startswith("_")))


def _folder(record: str) -> Path:
    for folder in FOLDERS:
        if (folder / record).is_dir():
            return folder / record
    raise KeyError(f"there is no record {record!r} in {RECORDS}; the records are {', '.join(record_names())}")


def versions(record: str) -> tuple[int, ...]:
    return tuple(sorted(int(file.stem[1:]) for file in _folder(record).glob("v*.avsc")))


_added: dict[str, Schema] = {}  # by record: schemas that do not lie in a folder of records


def add(record: str, schema: Schema) -> None:
    """Make a schema known that lies elsewhere: that of a task with code of its own. An equal schema stays the same object."""
    if _added.get(record) != schema:
        _added[record] = schema


def schema(record: str, version: int | None = None) -> Schema:
    """The schema of a record, by default its newest version. Callers must not change it."""
    return _added[record] if record in _added else _of_folder(record, version)


@cache
def _of_folder(record: str, version: int | None) -> Schema:
    number = versions(record)[-1] if version is None else version
    loaded: Schema = json.loads((_folder(record) / f"v{number}.avsc").read_text())
    return loaded


def examples(record: str) -> dict[str, dict[str, Any]]:
    """Name and JSON of each example. Avro `bytes` are written as text, one character per byte."""
    return {file.stem: json.loads(file.read_text()) for file in sorted((_folder(record) / "examples").glob("*.json"))}


def from_json(value: Any, kind: Any) -> Any:
    """A JSON value (see `schemas.json_fit`) as the value that the codec writes.

    `bytes` and `fixed` come from latin-1 text, as in the Avro specification. Logical types stay the numbers or bytes that are written.
    A union takes the branch that fits. Missing fields take their defaults."""
    return _from_json(value, kind, names_of(kind))


def _from_json(value: Any, kind: Any, names: Mapping[str, Any]) -> Any:
    match kind:
        case str() if kind in names:
            return _from_json(value, names[kind], names)
        case "bytes" | {"type": "fixed"}:
            return value.encode("latin-1") if isinstance(value, str) else value
        case "int" | "long":
            number = whole(value)
            return value if number is None else number
        case "float" | "double":
            return float(value) if value in NOT_FINITE else value
        case list():
            return _of_union(value, kind, names)
        case {"type": "record", "fields": fields}:
            return {f["name"]: _field(value, f, names) for f in fields}
        case {"type": "array", "items": items}:
            return [_from_json(item, items, names) for item in value]
        case {"type": "map", "values": values}:
            return {key: _from_json(item, values, names) for key, item in value.items()}
        case {"type": "enum"}:
            return value
        case {"type": inner}:
            return _from_json(value, inner, names)
        case _:
            return value


def _field(value: Mapping[str, Any], field: Mapping[str, Any], names: Mapping[str, Any]) -> Any:
    """By the specification the default of a union belongs to its first branch."""
    if field["name"] in value:
        return _from_json(value[field["name"]], field["type"], names)
    kind = field["type"][0] if isinstance(field["type"], list) else field["type"]
    return _from_json(field["default"], kind, names)


def _of_union(value: Any, union: list[Any], names: Mapping[str, Any]) -> Any:
    branch = branch_of(value, union, names)
    if branch is None:
        return value  # the codec will report the error
    resolved = [names.get(kind, kind) if isinstance(kind, str) else kind for kind in union]
    chosen = names.get(branch, branch) if isinstance(branch, str) else branch
    converted = _from_json(value, branch, names)
    complex_branches = [kind for kind in resolved if isinstance(kind, dict)]
    if len(complex_branches) > 1 and isinstance(chosen, dict) and chosen.get("type") == "record":
        return _full_name_in(chosen, names), converted  # fastavro takes a pair if the branch must be named
    return converted


def _full_name_in(record: dict[str, Any], names: Mapping[str, Any]) -> str:
    return max((name for name, kind in names.items() if kind is record), key=len)


_parsed: dict[int, tuple[Any, Any]] = {}


def parsed(kind: Any) -> Any:
    """fastavro's parsed form, created once per schema object. The object is kept with it, so that no later object gets the
    same id."""
    entry = _parsed.get(id(kind))
    if entry is None:
        entry = _parsed[id(kind)] = (kind, fastavro.parse_schema(kind, named_schemas={}))
    return entry[1]
