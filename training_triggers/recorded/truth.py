"""The labels of a request and of its parts. Pure.

A label of a whole item (`truth`) does not say in which part a category holds; if a category does not hold for the item, it holds
for no part. Labels of single parts are in `parts`. The newest label of each output counts, so that a corrected label replaces the
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OutputLabels = Mapping[str, bool]  # by output name, whether it holds


@dataclass(frozen=True, slots=True)
class RequestLabels:
    """truth: of the whole request. parts: of single parts, by their names in the prediction log. sources: of the labels."""

    truth: OutputLabels
    parts: Mapping[str, OutputLabels] = field(default_factory=dict)
    sources: frozenset[str] = frozenset()

    def of(self, part: str) -> OutputLabels:
        """Labels of one part. part: its name; empty for the only part of a request."""
        if not part:
            merged = dict(self.truth)
            if len(self.parts) == 1:
                merged |= next(iter(self.parts.values()))
            return merged
        absent_in_all = {name: False for name, holds in self.truth.items() if not holds}
        return {**absent_in_all, **self.parts.get(part, {})}


Truth = Mapping[str, "RequestLabels | OutputLabels"]  # by request id


def labels_of(labels: RequestLabels | OutputLabels | None) -> RequestLabels:
    if labels is None:
        return RequestLabels({})
    return labels if isinstance(labels, RequestLabels) else RequestLabels(labels)


def with_label(before: RequestLabels | None, label: Mapping[str, Any]) -> RequestLabels | None:
    """The labels of a request after one more record of `labels-v1`; None if there are none."""
    parts: Mapping[str, OutputLabels] = label.get("parts") or {}
    if not label["truth"] and not parts:
        return before
    labels = before or RequestLabels({})
    merged = {name: {**labels.parts.get(name, {}), **of_part} for name, of_part in parts.items()}
    sources = labels.sources | {str(label.get("source", ""))}
    return RequestLabels({**labels.truth, **label["truth"]}, {**labels.parts, **merged}, sources)
