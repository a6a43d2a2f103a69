"""The Avro schemas of this repository: one folder a record, one file a version, examples beside it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import fastavro

RECORDS = Path(__file__).parent / "records"
FOLDERS = [RECORDS]  # tests and benchmarks add folders with records of their own
Schema = dict[str, Any]


def record_names() -> tuple[str, ...]:
    return tuple(sorted(folder.name for folder in RECORDS.iterdir() if folder.is_dir() and not folder.name.startswith("_")))


def _folder(record: str) -> Path:
    for folder in FOLDERS:
        if (folder / record).is_dir():
            return folder / record
    raise KeyError(f"no record {record!r} in {RECORDS}; there are: {', '.join(record_names())}")


def versions(record: str) -> tuple[int, ...]:
    return tuple(sorted(int(file.stem[1:]) for file in _folder(record).glob("v*.avsc")))


@cache
def schema(record: str, version: int | None = None) -> Schema:
    """The parsed schema of a record, newest version unless one is named. Callers must not change it."""
    number = versions(record)[-1] if version is None else version
    loaded: Schema = json.loads((_folder(record) / f"v{number}.avsc").read_text())
    return loaded


def examples(record: str) -> dict[str, dict[str, Any]]:
    """Name and JSON of each example. Avro `bytes` are written as text with one character a byte."""
    return {file.stem: json.loads(file.read_text()) for file in sorted((_folder(record) / "examples").glob("*.json"))}


def from_json(value: Any, kind: Any) -> Any:
    """A value as JSON spells it: `bytes` are latin-1 text, as the Avro specification says, and fields that are left out
    have their defaults."""
    match kind:
        case "bytes":
            return value.encode("latin-1") if isinstance(value, str) else value
        case list():
            if value is None:
                return None
            return from_json(value, next(branch for branch in kind if branch != "null"))
        case {"type": "record", "fields": fields}:
            return {f["name"]: from_json(value[f["name"]] if f["name"] in value else f["default"], f["type"]) for f in fields}
        case {"type": "array", "items": items}:
            return [from_json(item, items) for item in value]
        case {"type": "map", "values": values}:
            return {key: from_json(item, values) for key, item in value.items()}
        case _:
            return value


_parsed: dict[int, tuple[Any, Any]] = {}


def parsed(kind: Any) -> Any:
    """fastavro's parsed form, made once for each schema object; the object is kept so that its id stays its own."""
    found = _parsed.get(id(kind))
    if found is None:
        found = (kind, fastavro.parse_schema(kind, named_schemas={}))
        _parsed[id(kind)] = found
    return found[1]
