"""Whether a value as JSON spells it fits an Avro schema, and where it does not. Pure.

Spelt as the Avro specification's JSON encoding, but for unions, which need no name of the branch, and numbers that JSON lacks: a whole
number may be a text of digits (a browser's numbers end at 2^53), and `nan`, `inf` and `-inf` are numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NUMBERS = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
NOT_FINITE = ("nan", "inf", "-inf")
DEEPEST = 24
_DIGITS = re.compile(r"-?[0-9]{1,19}")


def names_of(schema: Any) -> dict[str, Any]:
    """Every named type of a schema, by its own and its full name."""
    found: dict[str, Any] = {}
    _collect(schema, "", found)
    return found


def _collect(kind: Any, namespace: str, found: dict[str, Any]) -> None:
    match kind:
        case list():
            for branch in kind:
                _collect(branch, namespace, found)
        case {"type": "record" | "error" | "enum" | "fixed", "name": name}:
            full = full_name(kind, namespace)
            found[name] = found[full] = kind
            for field in kind.get("fields", ()):
                _collect(field["type"], full.rpartition(".")[0], found)
        case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
            _collect(inner, namespace, found)
        case {"type": dict() | list() as inner}:
            _collect(inner, namespace, found)
        case _:
            pass


def full_name(kind: Mapping[str, Any], namespace: str = "") -> str:
    """namespace: of what it stands in."""
    name = str(kind["name"])
    own = str(kind.get("namespace", namespace))
    return name if "." in name or not own else f"{own}.{name}"


def whole(value: Any) -> int | None:
    """A whole number, or its digits as text; None for anything else."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def branch_of(value: Any, union: list[Any], names: Mapping[str, Any]) -> Any:
    """The branch that a value is meant for: the first that it fits, and text before bytes and digits. None where it fits none."""
    fitting = [branch for branch in union if not _problems(value, branch, names, "", 0)]
    if isinstance(value, str):
        fitting.sort(key=lambda branch: _plain(branch) in ("bytes", "int", "long", "float", "double"))
    return fitting[0] if fitting else None


def _plain(kind: Any) -> Any:
    return kind["type"] if isinstance(kind, dict) else kind


def problems(value: Any, schema: Any) -> list[str]:
    """What of a JSON value the schema does not take, each with its path; empty where it fits."""
    return _problems(value, schema, names_of(schema), "", 0)


def _problems(value: Any, kind: Any, names: Mapping[str, Any], path: str, depth: int) -> list[str]:
    here = path or "the record"
    if depth > DEEPEST:
        return [f"{here}: nested too deeply"]
    match kind:
        case list():
            tries = [_problems(value, branch, names, path, depth + 1) for branch in kind]
            if any(not found for found in tries):
                return []
            close = [found for branch, found in zip(kind, tries, strict=True) if branch != "null" and value is not None]
            return min(close, key=len) if close else [f"{here}: null is not one of {_words(kind)}"]
        case str() if kind in names:
            return _problems(value, names[kind], names, path, depth + 1)
        case "null":
            return [] if value is None else [f"{here}: expected null"]
        case "boolean":
            return [] if isinstance(value, bool) else [f"{here}: expected true or false, not {_said(value)}"]
        case "int" | "long":
            low, high = NUMBERS[kind]
            number = whole(value)
            return (
                []
                if number is not None and low <= number <= high
                else [f"{here}: expected a whole number of {kind}, not {_said(value)}"]
            )
        case "float" | "double":
            fits = (isinstance(value, int | float) and not isinstance(value, bool)) or value in NOT_FINITE
            return [] if fits else [f"{here}: expected a number, not {_said(value)}"]
        case "string":
            return [] if isinstance(value, str) else [f"{here}: expected a text, not {_said(value)}"]
        case "bytes":
            return [] if _is_bytes(value) else [f"{here}: expected bytes, a character below 256 each, not {_said(value)}"]
        case {"type": "record", "fields": fields}:
            if not isinstance(value, Mapping):
                return [f"{here}: expected an object, not {_said(value)}"]
            known = {field["name"] for field in fields}
            found = [
                f"{_join(path, name)}: there is no such field; there are {', '.join(sorted(known))}"
                for name in value.keys() - known
            ]
            for field in fields:
                if field["name"] in value:
                    found += _problems(value[field["name"]], field["type"], names, _join(path, field["name"]), depth + 1)
                elif "default" not in field:
                    found.append(f"{_join(path, field['name'])}: it is missing, and has no default")
            return found
        case {"type": "array", "items": items}:
            if not isinstance(value, list):
                return [f"{here}: expected a list, not {_said(value)}"]
            return [one for i, inner in enumerate(value) for one in _problems(inner, items, names, f"{path}[{i}]", depth + 1)]
        case {"type": "map", "values": values}:
            if not isinstance(value, Mapping):
                return [f"{here}: expected an object, not {_said(value)}"]
            return [one for key, inner in value.items() for one in _problems(inner, values, names, _join(path, key), depth + 1)]
        case {"type": "enum", "symbols": symbols}:
            return [] if value in symbols else [f"{here}: expected one of {', '.join(symbols)}, not {_said(value)}"]
        case {"type": "fixed", "size": size}:
            return [] if _is_bytes(value) and len(value) == size else [f"{here}: expected {size} bytes"]
        case {"type": inner}:
            return _problems(value, inner, names, path, depth + 1)
        case _:
            return [f"{here}: a type that is not known: {kind!r:.60}"]


def _is_bytes(value: Any) -> bool:
    return isinstance(value, str) and all(ord(one) < 256 for one in value)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _said(value: Any) -> str:
    return "nothing" if value is None else f"{value!r:.40}"


def _words(kinds: list[Any]) -> str:
    return ", ".join(kind if isinstance(kind, str) else str(kind.get("name", kind.get("type"))) for kind in kinds)
