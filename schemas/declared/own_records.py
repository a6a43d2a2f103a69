"""Records of tasks whose code is somebody's own: `request.avsc` and `result.avsc` beside the code.

A result gets the fields that every result has before its own ones, so `result.avsc` has only what the task answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas import avro
from schemas.errors import UndecodableRecord
from schemas.topic_kinds import Record
from schemas.writer_schemas import writer_of


def own_record(folder: Path, task: str, part: str) -> type[Record]:
    """The record type of a task's requests or results. part: request or result. Raises ValueError with the file and the reason."""
    file = folder / f"{part}.avsc"
    try:
        schema: dict[str, Any] = json.loads(file.read_text())
    except OSError as error:
        raise ValueError(
            f"{file} cannot be read: it must hold the Avro schema of the task's {part}s ({error.strerror})"
        ) from error
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(schema, dict) or schema.get("type") != "record" or not isinstance(schema.get("fields"), list):
        raise ValueError(f"{file} must hold the schema of a record")
    if part == "result":
        schema = _with_common_fields(file, schema)
    try:
        writer_of(schema)
    except UndecodableRecord as error:
        raise ValueError(f"{file}: {error}") from error
    name = f"{task}.{part}"  # with a dot: a task called text would take the place of the record text-request
    avro.add(name, schema)
    return type(name, (), {"RECORD": name})


def common_fields() -> list[dict[str, Any]]:
    """The fields with which every result begins: request, status, origin, models, features."""
    fields: list[dict[str, Any]] = avro.schema("vision-result")["fields"]
    names = [field["name"] for field in fields]
    return fields[: names.index("features") + 1]


def _with_common_fields(file: Path, schema: dict[str, Any]) -> dict[str, Any]:
    common = common_fields()
    taken = {field["name"] for field in common}
    for field in schema["fields"]:
        if field.get("name") in taken:
            raise ValueError(f"{file}: every result has the field {field['name']}; remove it from this file")
        if "default" not in field:
            raise ValueError(f"{file}: field {field.get('name')} needs a default, as a request that fails has no value for it")
    return {**schema, "fields": [*common, *schema["fields"]]}
