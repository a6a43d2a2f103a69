"""Checks whether a value fits a schema's field: an encoder would silently convert 3.9, "3" and true to numbers, and truncate
2^64. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

_BITS = {"int": 32, "long": 64}


def misfit(value: Any, kind: Any, path: str) -> str:
    """The problem, in words with the path to it; empty if the value fits. Fields of a nested record may be left out if they
    have defaults."""
    match kind:
        case list():
            wrong = [misfit(value, branch, path) for branch in kind]
            return "" if "" in wrong else next((words for words in reversed(wrong) if words), "")
        case {"type": "record", "fields": fields}:
            return _of_record(value, fields, path)
        case {"type": "array", "items": items}:
            if not isinstance(value, list | tuple):
                return _words(value, "an array", path)
            return next((w for i, item in enumerate(value) if (w := misfit(item, items, f"{path}[{i}]"))), "")
        case {"type": "map", "values": values}:
            if not isinstance(value, Mapping):
                return _words(value, "a map", path)
            return next((w for key, item in value.items() if (w := misfit(item, values, f"{path}.{key}"))), "")
        case {"type": "enum", "symbols": symbols}:
            return "" if value in symbols else _words(value, f"one of {', '.join(symbols)}", path)
        case {"type": "fixed"}:
            return misfit(value, "bytes", path)
        case {"type": inner}:
            return misfit(value, inner, path)
        case _:
            return _of_scalar(value, kind, path)


def _of_record(value: Any, fields: list[dict[str, Any]], path: str) -> str:
    if not isinstance(value, Mapping):
        return _words(value, "a record", path)
    names = {field["name"] for field in fields}
    if unknown := sorted(map(str, value.keys() - names)):
        return f"{path} has no field {', '.join(unknown)[:60]}"
    if missing := [f["name"] for f in fields if "default" not in f and f["name"] not in value]:
        return f"{path} lacks {', '.join(missing)}"
    wrong = (misfit(value[f["name"]], f["type"], f"{path}.{f['name']}") for f in fields if f["name"] in value)
    return next((words for words in wrong if words), "")


def _of_scalar(value: Any, kind: str, path: str) -> str:
    is_bool = isinstance(value, bool)
    match kind:
        case "null":
            return "" if value is None else _words(value, "null", path)
        case "boolean":
            return "" if is_bool else _words(value, "true or false", path)
        case "int" | "long":
            most = 2 ** (_BITS[kind] - 1)
            good = isinstance(value, Integral) and not is_bool and -most <= value < most
            return "" if good else _words(value, f"a whole number of {_BITS[kind]} bits", path)
        case "float" | "double":
            return "" if isinstance(value, Real) and not is_bool else _words(value, "a number", path)
        case "string":
            return "" if isinstance(value, str) and _is_utf8(value) else _words(value, "a text", path)
        case "bytes":
            return "" if isinstance(value, bytes | bytearray | memoryview) else _words(value, "bytes", path)
        case _:  # a named type, which only an encoder can look up
            return ""


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # an unpaired surrogate, which JSON can express and UTF-8 cannot
        return False
    return True


def _words(value: Any, wanted: str, path: str) -> str:
    shown = ascii(value)[:60] if value is None or isinstance(value, bool | int | float | str) else f"a {type(value).__name__}"
    return f"{path} is {shown}, and takes {wanted}"
