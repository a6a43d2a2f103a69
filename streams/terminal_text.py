"""Words of others on a terminal: what would move its cursor, colour it or turn its lines round is spelt out. And times, as they are printed and read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.errors import BadSettings

# C0, DEL and C1 (a terminal obeys them), line and paragraph separators, what turns the direction of text, lone surrogates
_OBEYED = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def visible(text: str, keep: str = "\n\t") -> str:
    """Each such character as its escape (`\\x1b`), but for those that are kept."""
    return _OBEYED.sub(lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(), text)


def as_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """One line of JSON that a terminal shows and a program reads as the same value, but that numbers which JSON has not are null."""
    try:
        line = json.dumps(value, default=default, ensure_ascii=False, allow_nan=False)
    except ValueError:
        line = json.dumps(finite(value), default=default, ensure_ascii=False)
    # within JSON these characters stand in texts only
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def finite(value: Any) -> Any:
    """The same value with None in place of each non-finite number, because JSON cannot express those."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: finite(one) for key, one in value.items()}
        case list() | tuple():
            return [finite(one) for one in value]
    return value


def moment(at_ms: int) -> str:
    """A time in UTC, which says so, as `--from` takes it; one that no calendar has, as the number it is."""
    try:
        found = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    except OverflowError:
        return f"{at_ms} ms"
    return found.isoformat("T", "milliseconds").removesuffix("+00:00") + "Z"


def moment_ms(text: str) -> int:
    """A time as `moment` prints it, or otherwise in ISO 8601; in UTC where it names no zone. Raises BadSettings."""
    try:
        found = datetime.fromisoformat(text)
        at = found if found.tzinfo else found.replace(tzinfo=UTC)
        return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise BadSettings(f"{text!r} is no time: it takes 2026-05-01T12:00, in UTC where no zone is said") from error
