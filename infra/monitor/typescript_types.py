"""Writes the TypeScript types for the pages from the OpenAPI document: `python -m infra.monitor.typescript_types` writes FILE,
`--check` fails if FILE differs from the document."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from infra.monitor import app
from infra.settings import ROOT

FILE = ROOT / "infra" / "monitor" / "web" / "src" / "answers.ts"
HEAD = """/** Written by `python -m infra.monitor.typescript_types` from the OpenAPI document. Not edited by hand. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
"""
Schema = Mapping[str, Any]
REF = "#/components/schemas/"
WIDTH = 120  # of a comment line
PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def types(document: Schema) -> str:
    """An interface for each schema of the document, by name. In an answer every field is required; in a request, those without
    a default."""
    schemas: Schema = document["components"]["schemas"]
    requests = _reached(_bodies(document), schemas)
    return "\n".join([HEAD, *(_interface(name, schemas[name], name in requests) for name in sorted(schemas))])


def _bodies(document: Schema) -> list[Schema]:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    return [operation["requestBody"] for operation in operations if "requestBody" in operation]


def _reached(where: Any, schemas: Schema) -> set[str]:
    """Names of the schemas that it names, directly or through other schemas."""
    found: set[str] = set()
    todo = list(_names(where))
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += _names(schemas[name])
    return found


def _names(where: Any) -> Iterator[str]:
    if isinstance(where, Mapping):
        if isinstance(ref := where.get("$ref"), str):
            yield ref.removeprefix(REF)
        for inner in where.values():
            yield from _names(inner)
    elif isinstance(where, list):
        for inner in where:
            yield from _names(inner)


def _interface(name: str, schema: Schema, is_request: bool) -> str:
    if "enum" in schema:
        return "\n".join([*_comment(schema.get("description", "")), f"export type {name} = {_type(schema)};", ""])
    required = schema.get("required", ())
    fields = [
        f"  {field}{'?' if is_request and field not in required else ''}: {_type(inner)};"
        for field, inner in schema.get("properties", {}).items()
    ]
    return "\n".join([*_comment(schema.get("description", "")), f"export interface {name} {{", *fields, "}", ""])


def _comment(text: str) -> list[str]:
    safe = text.strip().replace("*/", "* /")
    lines = [part for line in safe.splitlines() for part in textwrap.wrap(line, WIDTH - 3) or [""]]
    if not lines:
        return []
    return [f"/** {lines[0]} */"] if len(lines) == 1 else ["/**", *(f" * {line}".rstrip() for line in lines), " */"]


def _type(schema: Schema) -> str:
    match schema:
        case {"$ref": str(ref)}:
            return ref.removeprefix(REF)
        case {"enum": list(values)}:
            return " | ".join(json.dumps(value) for value in values)
        case {"const": value}:
            return json.dumps(value)
        case {"anyOf": list(kinds)}:
            return " | ".join(dict.fromkeys(_type(kind) for kind in kinds))
        case {"type": "array", "prefixItems": list(kinds)}:
            return f"[{', '.join(_type(kind) for kind in kinds)}]"
        case {"type": "array", "items": items}:
            inner = _type(items)
            return f"({inner})[]" if "|" in inner else f"{inner}[]"
        case {"type": "object", "additionalProperties": Mapping() as values}:
            return f"Record<string, {_type(values)}>"
        case {"type": "object"}:
            return "Record<string, Json>"
        case {"type": str(kind)} if kind in PLAIN:
            return PLAIN[kind]
        case _:
            return "Json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="infra.monitor.typescript_types")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the file is not up to date")
    chosen = parser.parse_args()
    wanted = types(app.interface().openapi())
    if FILE.exists() and FILE.read_text() == wanted:
        return 0
    if chosen.check:
        print(f"{FILE.relative_to(ROOT)} is not what the monitor answers: `./millrace fix` writes it", file=sys.stderr)
        return 1
    FILE.write_text(wanted)
    print(f"wrote {FILE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
