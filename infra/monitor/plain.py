"""Converts any value that was read to JSON that every parser accepts. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from streams.terminal_text import finite

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")

CUT_CHARS = 16 * 1024  # per text in a list; the record's own page shows more
WHOLE_CHARS = 1024 * 1024
BYTES_CHARS = 256
DEEPEST = 60


def plain(value: Any, most_chars: int = CUT_CHARS, depth: int = 0) -> Any:
    """Bytes as in Avro's JSON encoding (one character per byte), long or deep values cut with a note, non-finite numbers as
    text."""
    if depth > DEEPEST:
        return "… (nested deeper)"
    match value:
        case bytes():
            return plain(value.decode("latin-1"), min(most_chars, BYTES_CHARS) if most_chars == CUT_CHARS else most_chars)
        case str():
            return value if len(value) <= most_chars else f"{value[:most_chars]}… ({len(value) - most_chars} more)"
        case dict():
            return {key: plain(inner, most_chars, depth + 1) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner, most_chars, depth + 1) for inner in value]
        case float() if not math.isfinite(value):
            return str(value)
        case None | bool() | int() | float():
            return value
        case _:
            return str(value)


def shown(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record for a list of records: non-finite numbers are None, long texts are cut."""
    found: dict[str, Any] = plain(finite(record))
    return found


def picked(kind: Callable[..., T], found: Mapping[str, Any]) -> T:
    """A dataclass with its fields from a mapping, which may have further keys; non-finite numbers are None."""
    names = getattr(kind, "__dataclass_fields__")  # noqa: B009  # not of every callable
    return kind(**{name: finite(found[name]) for name in names})


def extended(kind: Callable[..., T], record: DataclassInstance, **more: Any) -> T:
    """A dataclass that inherits from a record's dataclass: the fields of the given record, and its own."""
    return kind(**{field.name: getattr(record, field.name) for field in fields(record)}, **more)


def as_json(value: Any) -> bytes:
    """JSON by RFC 8259 for any value: no NaN, and no unpaired surrogate."""
    try:
        words = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    except ValueError:
        words = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    return words.encode(errors="replace")
