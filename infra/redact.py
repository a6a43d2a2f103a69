"""Removes secrets from displayed text: the user and password of an address, and the value after a name such as `password=`.
Pure."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"
# Greedy up to the last @ of the word: an unescaped password may contain @, / and :.
_USER = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)[^\s\"'<>|]*@")
_WORD = r"password|passwd|pwd|secret|token|credential|api[-_.]?key|access[-_.]?key|private[-_.]?key"
_NAMED = re.compile(
    rf"""(?P<name>[\w.-]*(?:{_WORD})[\w.-]*["']?\s?[=]\s?|["'][\w.-]*(?:{_WORD})[\w.-]*["']\s*:\s*)
    (?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|[^\s&,;"'}}]+)""",
    re.IGNORECASE | re.VERBOSE,
)
_NAME = re.compile(_WORD, re.IGNORECASE)


def text(words: str) -> str:
    """Changes `redis://user:secret@host` to `redis://host`, and `password=secret` to `password=***`."""
    if "://" in words and "@" in words:
        words = _USER.sub(r"\g<scheme>", words)
    return _NAMED.sub(rf"\g<name>{HIDDEN}", words) if "=" in words or ":" in words else words


def tree(value: Any) -> Any:
    """Applies `text` to every text in the value; a text under a name such as `password` is hidden completely."""
    match value:
        case str():
            return text(value)
        case dict():
            return {
                key: HIDDEN if isinstance(inner, str) and inner and isinstance(key, str) and _NAME.search(key) else tree(inner)
                for key, inner in value.items()
            }
        case list() | tuple():
            return [tree(inner) for inner in value]
        case _:
            return value
