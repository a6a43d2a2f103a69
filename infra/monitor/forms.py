"""What a produce form needs: a valid example of any Avro schema, and a check of what was typed that names the place. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NUMBERS = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
DEEPEST = 24
_LOGICAL: dict[str, Any] = {
    "timestamp-millis": 1_764_000_000_000, "timestamp-micros": 1_764_000_000_000_000, "local-timestamp-millis": 1_764_000_000_000,
    "date": 20_417, "time-millis": 43_200_000, "time-micros": 43_200_000_000, "uuid": "01936b1e-7d2c-7a10-8f00-0a1b2c3d4e5f",
}  # fmt: skip
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


def _names(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Every named type of a schema, by its own and its full name."""
    match kind:
        case list():
            for branch in kind:
                _names(branch, found)
        case {"type": "record" | "error", "name": name, "fields": fields}:
            found[name] = found[f"{kind['namespace']}.{name}" if "namespace" in kind else name] = kind
            for field in fields:
                _names(field["type"], found)
        case {"type": "enum" | "fixed", "name": name}:
            found[name] = found[f"{kind['namespace']}.{name}" if "namespace" in kind else name] = kind
        case {"type": "array", "items": inner} | {"type": "map", "values": inner}:
            _names(inner, found)
        case {"type": dict() | list() as inner}:
            _names(inner, found)
        case _:
            pass
    return found


def example(schema: Any) -> Any:
    """A value as JSON that the schema takes: first branch of a union that is not null, one entry of a list; a type inside itself ends
    with null or an empty list."""
    return _example(schema, _names(schema, {}), ())


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
        case {"type": "fixed", "size": size}:
            return "\x00" * size
        case {"type": inner}:
            return _example(inner, names, inside)
        case _:
            return None


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else str(kind.get("name", "")) if isinstance(kind, Mapping) else ""


def problems(value: Any, schema: Any) -> list[str]:
    """What of a JSON value the schema does not take, each with its path; empty where it fits."""
    return _problems(value, schema, _names(schema, {}), "", 0)


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
            whole = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
            return [] if whole else [f"{here}: expected a whole number of {kind}, not {_said(value)}"]
        case "float" | "double":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return [] if number else [f"{here}: expected a number, not {_said(value)}"]
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
