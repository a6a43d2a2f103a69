"""Filters of records: several conditions that must all hold. Pure."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.errors import InvalidRequest


@dataclass(frozen=True)
class ReadRecord:
    """A record as people read it. value: as Avro's own JSON spells it; where it does not decode, `not_decoded` says why."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str
    headers: dict[str, str]
    value: Any


@dataclass(frozen=True)
class Message(ReadRecord):
    """bytes: of its value."""

    bytes: int


Keep = Callable[[Message], bool]
_WORD = re.compile(r'"([^"]*)"|(\S+)')
_TERM = re.compile(r"^(?P<path>[A-Za-z_][\w.\-]*)(?P<how><=|>=|!=|=|<|>|:)(?P<than>.+)$", re.DOTALL)
OWN = ("key", "partition", "offset", "timestamp_ms")  # fields of the message, which take precedence over those of its value
_ORDER = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}


def filter_of(text: str) -> Keep:
    """Conditions that must all hold. `path:text` (contains), `path=x`, `path!=x`, `path<1`, `path>=1` apply to the value, or
    to `key`, `partition`, `offset`, `header.NAME`; any other word is searched in the whole record. Quotes keep blanks
    together.

    Raises InvalidRequest if a comparison of numbers has a value that is not a number."""
    tests = [_test(quoted if quoted else word, bool(quoted)) for quoted, word in _WORD.findall(text)]
    return lambda record: all(test(record) for test in tests)


def _test(word: str, quoted: bool) -> Keep:
    found = None if quoted else _TERM.match(word)
    if found is None:
        wanted = word.lower()
        return lambda record: wanted in json.dumps(vars(record), ensure_ascii=False, default=str).lower()
    path, how, than = found["path"].split("."), found["how"], found["than"].strip('"')
    if how in _ORDER:
        try:
            limit = float(than)
        except ValueError:
            raise InvalidRequest(f"filter {word!r}: {how} compares numbers, and {than!r} is none") from None
        compare = _ORDER[how]
        return lambda record: any(isinstance(v, int | float) and compare(v, limit) for v in _values(record, path))
    if how == ":":
        part = than.lower()
        return lambda record: any(part in _text(v).lower() for v in _values(record, path))
    equal: Keep = lambda record: any(_text(v) == than for v in _values(record, path))  # noqa: E731
    return equal if how == "=" else lambda record: not equal(record)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _values(record: Message, path: Sequence[str]) -> list[Any]:
    """The value at a path; for a list, the value at that path in each entry."""
    if path[0] == "header":
        name = ".".join(path[1:])
        return [record.headers[name]] if name in record.headers else []
    found: list[Any] = [vars(record) if path[0] in OWN else record.value]
    for name in path:
        step: list[Any] = []
        for one in found:
            for inner in one if isinstance(one, list) else [one]:
                if isinstance(inner, Mapping) and name in inner:
                    step.append(inner[name])
        found = step
    return [inner for one in found for inner in (one if isinstance(one, list) else [one])]
