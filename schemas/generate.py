"""Writes `generated.py`: one frozen dataclass for each record, from the Avro schemas.

`python -m schemas.generate` writes it; with `--check` it only reports whether the file is up to date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from schemas import avro

TARGET = Path(__file__).parent / "generated.py"
_PRIMITIVE = {
    "string": "str",
    "bytes": "bytes",
    "int": "int",
    "long": "int",
    "float": "float",
    "double": "float",
    "boolean": "bool",
}


def _type(kind: Any) -> str:
    match kind:
        case str():
            return _PRIMITIVE[kind]
        case list():
            (inner,) = [branch for branch in kind if branch != "null"]
            return f"{_type(inner)} | None"
        case {"type": "array", "items": items}:
            return f"tuple[{_type(items)}, ...]"
        case {"type": "map", "values": values}:
            return f"dict[str, {_type(values)}]"
        case {"type": "record", "name": name}:
            return str(name)
    raise ValueError(f"no Python type for {kind!r}")


def _parse(kind: Any, value: str) -> str:
    """Source of the expression that converts a decoded value to the field's type."""
    match kind:
        case list():
            (inner,) = [branch for branch in kind if branch != "null"]
            parsed = _parse(inner, value)
            return value if parsed == value else f"None if {value} is None else {parsed}"
        case {"type": "array", "items": items}:
            parsed = _parse(items, "item")
            return f"tuple({value})" if parsed == "item" else f"tuple({parsed} for item in {value})"
        case {"type": "record", "name": name}:
            return f"{name}.from_dict({value})"
        case _:
            return value


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return ""
    match field["default"]:
        case str() as text if field["type"] == "bytes":
            return ' = b""' if not text else f" = {text.encode('latin-1')!r}"
        case []:
            return " = ()"
        case {}:
            return " = dataclasses.field(default_factory=dict)"
        case str() as text:
            return f" = {json.dumps(text)}"
        case value:
            return f" = {value!r}"


def _nested(kind: Any) -> list[dict[str, Any]]:
    match kind:
        case list():
            return [record for branch in kind for record in _nested(branch)]
        case {"type": "array", "items": items}:
            return _nested(items)
        case {"type": "map", "values": values}:
            return _nested(values)
        case {"type": "record", "fields": fields}:
            return [*(record for f in fields for record in _nested(f["type"])), kind]
        case _:
            return []


def _class(record: dict[str, Any], name: str | None) -> str:
    lines = ["@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)", f"class {record['name']}:"]
    documented = [(f["name"], f["doc"]) for f in record["fields"] if "doc" in f]
    lines.append(f'    """{record["doc"]}')
    if documented:
        lines += ["", *(f"    {field}: {doc}" for field, doc in documented), '    """', ""]
    else:
        lines[-1] += '"""'
        lines.append("")
    if name is not None:
        lines += [f'    RECORD: ClassVar[str] = "{name}"', ""]
    lines += [f"    {f['name']}: {_type(f['type'])}{_default(f)}" for f in record["fields"]]
    lines += ["", "    @classmethod", f"    def from_dict(cls, d: dict[str, Any]) -> {record['name']}:", "        return cls("]
    lines += [f"            {f['name']}={_parse(f['type'], _item(f['name']))}," for f in record["fields"]]
    return "\n".join([*lines, "        )", ""])


def _item(name: str) -> str:
    return f'd["{name}"]'


def source() -> str:
    seen: dict[str, dict[str, Any]] = {}
    classes: list[str] = []
    for name in avro.record_names():
        schema = avro.schema(name)
        for record in _nested(schema):
            if record["name"] in seen:
                if seen[record["name"]] != record:
                    raise ValueError(f"two different records are called {record['name']}; one is in {name}")
                continue
            seen[record["name"]] = record
            classes.append(_class(record, name if record is schema else None))
    head = [
        '"""Written by `python -m schemas.generate` from `schemas/records/`. Not edited by hand."""',
        "",
        "from __future__ import annotations",
        "",
        "import dataclasses",
        "from typing import Any, ClassVar",
        "",
        "",
        "",
    ]
    return "\n".join(head) + "\n\n".join(classes)


def main() -> int:
    text = source()
    if "--check" not in sys.argv:
        TARGET.write_text(text)
        return 0
    if TARGET.exists() and TARGET.read_text() == text:
        return 0
    print(f"{TARGET.name} is not what schemas/records says: run `./millrace fix`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
