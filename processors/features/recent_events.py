"""A user's recent events as the text of one feature (`schemas.features.RECENT`): the sink writes it, a task reads it. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

MAX_TEXT_BYTES = 60_000  # a text of a blob has at most 65,535
Event = tuple[int, str, str]  # time in ms, item, kind


def to_text(events: Sequence[Event]) -> str:
    """events: oldest first. The oldest are left out if the text would be too long: ids may have 200 characters each."""
    parts = [json.dumps([item, kind, at_ms], ensure_ascii=False) for at_ms, item, kind in events]
    left, first = MAX_TEXT_BYTES, len(parts)
    while first and (left := left - len(parts[first - 1].encode()) - 1) > 0:
        first -= 1
    return f"[{','.join(parts[first:])}]"


def from_text(text: str) -> list[Event]:
    """Oldest first; no events if the text is none that `to_text` writes."""
    try:
        return [(int(at_ms), str(item), str(kind)) for item, kind, at_ms in json.loads(text)]
    except (ValueError, TypeError):
        return []
