"""An author's strikes: those of their content items whose last action is a removal. Pure.

Strikes are a set of ids, not a counter: an action that is read twice changes nothing, and a reversed removal no longer counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from processors.moderation.policy import REMOVE


def after(strikes: Iterable[str], action: Mapping[str, Any]) -> list[str]:
    """The author's ids after an action on one of their items, sorted."""
    others = set(strikes) - {action["content_id"]}
    return sorted(others | {action["content_id"]} if action["action"] == REMOVE else others)
