"""Settings: frozen dataclasses that are filled once, at the start, from `MILLRACE_*` variables; an invalid value stops the start.

`MILLRACE_MAX_WAIT_MS` sets a field for every task; `MILLRACE_MODERATION__MAX_WAIT_MS` sets it for one task and takes precedence.
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
HIDDEN = "***"
NUMBERS = {int: "whole number", float: "number"}


@dataclasses.dataclass(frozen=True)
class Origin:
    """One setting as `config show` prints it."""

    name: str
    value: str
    origin: str
    help: str


def setting(
    default: Any, help_: str, minimum: float | None = None, maximum: float | None = None, *, was: str = "", secret: bool = False
) -> Any:
    """minimum, maximum: the range of a number, inclusive; a number needs both. was: the field's earlier name, which is refused
    with a message that names the new one. secret: whether its value is never shown."""
    limits = {"help": help_, "minimum": minimum, "maximum": maximum, "was": was, "secret": secret}
    return dataclasses.field(default=default, metadata=limits, repr=not secret)


def load(kind: type[T], env: Mapping[str, str], scope: str = "", declared: Mapping[str, Any] | None = None) -> T:
    """The settings of a process. scope: the task or group whose own variables take precedence. declared: values that a declaration
    gives, by field; they count where no variable of that scope is set. Raises BadSettings with the variable, its value and the allowed
    values."""
    return kind(**{name: value for name, (value, _) in _values(kind, env, scope, declared or {}).items()})


def origins(kind: type[Any], env: Mapping[str, str], scope: str = "") -> list[Origin]:
    """Each field with its value and its origin: a variable or the default. Raises BadSettings."""
    values = _values(kind, env, scope, {})
    fields = {field.name: field for field in dataclasses.fields(kind)}
    return [
        Origin(
            f"{PREFIX}{name.upper()}",
            HIDDEN if value and fields[name].metadata.get("secret") else str(value.value if isinstance(value, Enum) else value),
            origin,
            fields[name].metadata.get("help", ""),
        )
        for name, (value, origin) in values.items()
    ]


def _values(kind: type[Any], env: Mapping[str, str], scope: str, declared: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    hints = typing.get_type_hints(kind)
    values: dict[str, tuple[Any, str]] = {}
    for field in dataclasses.fields(kind):
        _refuse_old_name(field, env, scope)
        values[field.name] = (field.default, "default")
        if field.name in declared:
            values[field.name] = (declared[field.name], "declaration")
        for variable in _variables(field.name, scope)[: 1 if field.name in declared else None]:
            if variable in env:
                values[field.name] = (_parse(variable, env[variable], hints[field.name], field.metadata), variable)
                break
    return values


def _variables(name: str, scope: str) -> list[str]:
    """The variables that set a field; the first variable that is present counts."""
    scoped = [f"{PREFIX}{scope.upper().replace('-', '_')}__{name.upper()}"] if scope else []
    return [*scoped, f"{PREFIX}{name.upper()}"]


def _refuse_old_name(field: dataclasses.Field[Any], env: Mapping[str, str], scope: str) -> None:
    was = field.metadata.get("was", "")
    for old, new in zip(_variables(was, scope), _variables(field.name, scope), strict=True) if was else ():
        if old in env:
            raise BadSettings(f"{old} is now called {new}: rename the variable")


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
        raise BadSettings(f"{name} is {text!r}; it must be {_allowed(kind, limits)}") from None


def _allowed(kind: Any, limits: Mapping[str, Any]) -> str:
    if kind is bool:
        return "1, true, 0 or false"
    if issubclass(kind, Enum):
        return "one of " + ", ".join(str(item.value) for item in kind)
    return f"a {NUMBERS[kind]} from {limits['minimum']} to {limits['maximum']}"
