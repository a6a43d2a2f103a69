"""What labels say of a request and of its parts. Pure.

A label about a whole item (`truth`) is not one about each of its parts: that a category holds says not where. That none holds is true of
every part. What was looked at part by part is in `parts`. The newest word on each output counts, so that a mended label replaces the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Said = Mapping[str, bool]  # by output name, what holds


@dataclass(frozen=True, slots=True)
class Known:
    """truth: of the whole request. parts: of single parts, by their names in the prediction log. sources: who said so."""

    truth: Said
    parts: Mapping[str, Said] = field(default_factory=dict)
    sources: frozenset[str] = frozenset()

    def of(self, part: str) -> Said:
        """part: empty where it is the request's only one."""
        if not part:
            merged = dict(self.truth)
            if len(self.parts) == 1:
                merged |= next(iter(self.parts.values()))
            return merged
        nowhere = {name: False for name, holds in self.truth.items() if not holds}
        return {**nowhere, **self.parts.get(part, {})}


Truth = Mapping[str, "Known | Said"]  # by request id


def known(said: Known | Said | None) -> Known:
    if said is None:
        return Known({})
    return said if isinstance(said, Known) else Known(said)


def with_label(before: Known | None, label: Mapping[str, Any]) -> Known | None:
    """What is known after one more record of the labels; None where nothing is."""
    parts: Mapping[str, Said] = label.get("parts") or {}
    if not label["truth"] and not parts:
        return before
    was = before or Known({})
    merged = {name: {**was.parts.get(name, {}), **said} for name, said in parts.items()}
    return Known({**was.truth, **label["truth"]}, {**was.parts, **merged}, was.sources | {str(label.get("source", ""))})
