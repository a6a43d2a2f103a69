"""Settings: frozen dataclasses filled once, at start, from `MILLRACE_*`; a bad value stops the start. A number has its range with it.

`MILLRACE_MAX_BATCH` sets a field for every task, `MILLRACE_MODERATION__MAX_BATCH` for one; the narrower wins.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

from schemas.errors import BadSettings

T = TypeVar("T")
PREFIX = "MILLRACE_"
NUMBERS = {int: "whole number", float: "number"}


@dataclasses.dataclass(frozen=True)
class Origin:
    """One setting as `config show` prints it."""

    name: str
    value: str
    origin: str
    help: str


def setting(default: Any, help_: str, minimum: float | None = None, maximum: float | None = None) -> Any:
    """minimum, maximum: of a number, both allowed themselves; a number needs both."""
    return dataclasses.field(default=default, metadata={"help": help_, "minimum": minimum, "maximum": maximum})


def load(kind: type[T], env: Mapping[str, str], scope: str = "") -> T:
    """Raises BadSettings that names the variable, its value and what it takes."""
    return kind(**{name: value for name, (value, _) in _values(kind, env, scope).items()})


def origins(kind: type[Any], env: Mapping[str, str], scope: str = "") -> list[Origin]:
    """Each field with its value and where that comes from: a variable or the default."""
    found = _values(kind, env, scope)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    return [
        Origin(
            f"{PREFIX}{name.upper()}",
            str(value.value if isinstance(value, Enum) else value),
            origin,
            fields[name].metadata.get("help", ""),
        )
        for name, (value, origin) in found.items()
    ]


def _values(kind: type[Any], env: Mapping[str, str], scope: str) -> dict[str, tuple[Any, str]]:
    hints = typing.get_type_hints(kind)
    found: dict[str, tuple[Any, str]] = {}
    for field in dataclasses.fields(kind):
        names = [f"{PREFIX}{scope.upper().replace('-', '_')}__{field.name.upper()}"] if scope else []
        names.append(f"{PREFIX}{field.name.upper()}")
        found[field.name] = (field.default, "default")
        for name in names:
            if name in env:
                found[field.name] = (_parse(name, env[name], hints[field.name], field.metadata), name)
                break
    return found


def _parse(name: str, text: str, kind: Any, limits: Mapping[str, Any]) -> Any:
    if isinstance(kind, types.UnionType):  # `X | None`: an empty variable means None
        if text == "":
            return None
        (kind,) = [option for option in typing.get_args(kind) if option is not type(None)]
    try:
        if kind is bool:
            return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
        value = kind(text)
        if kind in NUMBERS and not (math.isfinite(value) and limits["minimum"] <= value <= limits["maximum"]):
            raise ValueError
        return value
    except (ValueError, KeyError):
        raise BadSettings(f"{name} is {text!r}; it takes {_takes(kind, limits)}") from None


def _takes(kind: Any, limits: Mapping[str, Any]) -> str:
    if kind is bool:
        return "1, true, 0 or false"
    if issubclass(kind, Enum):
        return "one of " + ", ".join(str(item.value) for item in kind)
    return f"a {NUMBERS[kind]} from {limits['minimum']} to {limits['maximum']}"
