"""Reads a value out of a script: the literal that a minified module exports. The script is never run."""

from __future__ import annotations

import json
import re
from typing import Any

from schemas.errors import ModelRefused

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[A-Za-z_$][\w$]*|![01]|[{}\[\]:,]')
_EXPORT = re.compile(r"\b\w+\.exports=(?=[{\[\"])")
_WORDS = {"!0": "true", "!1": "false", "null": "null", "true": "true", "false": "false"}


def exported(script: str) -> Any:
    """The object, array or string that the last `exports=` of a script is set to. Raises ModelRefused if it is anything else."""
    starts = [match.end() for match in _EXPORT.finditer(script)]
    if not starts:
        raise ModelRefused("a script of the package exports no value")
    try:
        return json.loads(_as_json(script, starts[-1]))
    except ValueError as error:
        raise ModelRefused(f"a script of the package does not hold a plain value: {error}") from error


def _as_json(script: str, at: int) -> str:
    """The literal that begins at `at`, as JSON: names in quotes, numbers with a digit before the point."""
    parts: list[str] = []
    depth = 0
    while True:
        match = _TOKEN.match(script, at)
        if match is None:
            raise ModelRefused(f"a script of the package holds more than a value: {script[at : at + 40]!r}")
        token, at = match.group(), match.end()
        depth += (token in "{[") - (token in "}]")
        parts.append(_part(token, is_name=script[at : at + 1] == ":"))
        if depth == 0:
            return "".join(parts)


def _part(token: str, is_name: bool) -> str:
    if token[0] in '"{}[]:,':
        return token
    if is_name:
        return json.dumps(token)
    if token in _WORDS:
        return _WORDS[token]
    if token[0].isalpha() or token[0] in "_$!":
        raise ModelRefused(f"a script of the package holds more than a value: {token!r}")
    return repr(float(token)) if re.search(r"[.eE]", token) else token
