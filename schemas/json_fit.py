"""Checks whether a JSON value fits an Avro schema, and if not, which parts do not fit. Pure.

The value is in the JSON encoding of the Avro specification, with two differences. Unions need no branch name. Numbers that
JSON cannot express are strings: whole numbers may be written as digits (a browser is exact only up to 2^53), and `nan`, `inf`
and `-inf` are numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NUMBERS = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
NOT_FINITE = ("nan", "inf", "-inf")
DEEPEST = 24
_DIGITS = re.compile(r"-?[0-9]{1,19}")


def names_of(schema: Any) -> dict[str, Any]:
    """Every named type of a schema, by its short and its full name."""
    names: dict[str, Any] = {}
    _collect(schema, "", names)
    return names


def _collect(kind: Any, namespace: str, names: dict[str, Any]) -> None:
    match kind:
        case list():
            for branch in kind:
                _collect(branch, namespace, names)
        case {"type": "record" | "error" | "enum" | "fixed", "name": name}:
            full = full_name(kind, namespace)
            names[name] = names[full] = kind
            for field in kind.get("fields", ()):
                _collect(field["type"], full.rpartition(".")[0], names)
        case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
            _collect(inner, namespace, names)
        case {"type": dict() | list() as inner}:
            _collect(inner, namespace, names)
        case _:
            pass


def full_name(kind: Mapping[str, Any], namespace: str = "") -> str:
    """namespace: of the enclosing type."""
    name = str(kind["name"])
    own = str(kind.get("namespace", namespace))
    return name if "." in name or not own else f"{own}.{name}"


def whole(value: Any) -> int | None:
    """The integer value of a whole number, or of a text of its digits; None for anything else."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def branch_of(value: Any, union: list[Any], names: Mapping[str, Any]) -> Any:
    """The branch of a union that fits a value; for text, string comes before bytes and numbers. None if no branch fits."""
    fitting = [branch for branch in union if not _problems(value, branch, names, "", 0)]
    if isinstance(value, str):
        fitting.sort(key=lambda branch: _plain(branch) in ("bytes", "int", "long", "float", "double"))
    return fitting[0] if fitting else None


def _plain(kind: Any) -> Any:
    return kind["type"] if isinstance(kind, dict) else kind


def problems(value: Any, schema: Any) -> list[str]:
    """Every reason why a JSON value does not fit a schema, each with its path; empty if it fits."""
    return _problems(value, schema, names_of(schema), "", 0)


def _problems(value: Any, kind: Any, names: Mapping[str, Any], path: str, depth: int) -> list[str]:
    here = path or "the record"
    if depth > DEEPEST:
        return [f"{here}: nested too deeply"]
    match kind:
        case list():
            return _of_union(value, kind, names, path, depth)
        case str() if kind in names:
            return _problems(value, names[kind], names, path, depth + 1)
        case {"type": "record", "fields": fields}:
            return _of_record(value, fields, names, path, depth)
        case {"type": "array", "items": items}:
            if not isinstance(value, list):
                return [f"{here}: expected a list, not {_shown(value)}"]
            members = [(f"{path}[{i}]", item) for i, item in enumerate(value)]
            return [problem for place, item in members for problem in _problems(item, items, names, place, depth + 1)]
        case {"type": "map", "values": values}:
            if not isinstance(value, Mapping):
                return [f"{here}: expected an object, not {_shown(value)}"]
            members = [(_join(path, key), item) for key, item in value.items()]
            return [problem for place, item in members for problem in _problems(item, values, names, place, depth + 1)]
        case {"type": "enum", "symbols": symbols}:
            return [] if value in symbols else [f"{here}: expected one of {', '.join(symbols)}, not {_shown(value)}"]
        case {"type": "fixed", "size": size}:
            return [] if _is_bytes(value) and len(value) == size else [f"{here}: expected {size} bytes"]
        case {"type": inner}:
            return _problems(value, inner, names, path, depth + 1)
        case _:
            return _of_scalar(value, kind, here)


def _of_union(value: Any, branches: list[Any], names: Mapping[str, Any], path: str, depth: int) -> list[str]:
    """The problems of the branch that fits best: empty if one fits."""
    tries = [_problems(value, branch, names, path, depth + 1) for branch in branches]
    if any(not problems for problems in tries):
        return []
    close = [problems for branch, problems in zip(branches, tries, strict=True) if branch != "null" and value is not None]
    return min(close, key=len) if close else [f"{path or 'the record'}: null is not one of {_type_names(branches)}"]


def _of_record(value: Any, fields: list[dict[str, Any]], names: Mapping[str, Any], path: str, depth: int) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{path or 'the record'}: expected an object, not {_shown(value)}"]
    field_names = {field["name"] for field in fields}
    problems = [
        f"{_join(path, name)}: there is no such field; the fields are {', '.join(sorted(field_names))}"
        for name in value.keys() - field_names
    ]
    for field in fields:
        place = _join(path, field["name"])
        if field["name"] in value:
            problems += _problems(value[field["name"]], field["type"], names, place, depth + 1)
        elif "default" not in field:
            problems.append(f"{place}: missing, and there is no default")
    return problems


def _of_scalar(value: Any, kind: Any, here: str) -> list[str]:
    match kind:
        case "null":
            return [] if value is None else [f"{here}: expected null"]
        case "boolean":
            fits, expected = isinstance(value, bool), "true or false"
        case "int" | "long":
            low, high = NUMBERS[kind]
            number = whole(value)
            fits, expected = number is not None and low <= number <= high, f"a whole number of type {kind}"
        case "float" | "double":
            fits, expected = (
                (isinstance(value, int | float) and not isinstance(value, bool)) or value in NOT_FINITE,
                "a number",
            )
        case "string":
            fits, expected = isinstance(value, str), "a text"
        case "bytes":
            fits, expected = _is_bytes(value), "bytes, written as characters below 256"
        case _:
            return [f"{here}: unknown type {kind!r:.60}"]
    return [] if fits else [f"{here}: expected {expected}, not {_shown(value)}"]


def _is_bytes(value: Any) -> bool:
    return isinstance(value, str) and all(ord(character) < 256 for character in value)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"{value!r:.40}"


def _type_names(kinds: list[Any]) -> str:
    return ", ".join(kind if isinstance(kind, str) else str(kind.get("name", kind.get("type"))) for kind in kinds)
