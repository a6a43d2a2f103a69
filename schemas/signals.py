"""What drift detectors watch: kinds of columns by their names, and what a finding names that is of several columns."""

from __future__ import annotations

from collections.abc import Sequence

SAID = "said"  # the class that was told, as a number
RIGHT = "right"  # whether the answer was
EMBEDDED = "embedding "  # and a number: a column of one embedding, which means nothing for itself

NUMBER, CATEGORY, ANSWER = "number", "category", "answer"
ALL, EMBEDDING = "all signals together", "embedding"


def kind_of(signal: str) -> str:
    """What a column holds."""
    return EMBEDDING if signal.startswith(EMBEDDED) else {RIGHT: ANSWER, SAID: CATEGORY}.get(signal, NUMBER)


def together(signals: Sequence[str]) -> dict[str, list[int]]:
    """Columns that are looked at together, by what a finding calls them."""
    kinds = [kind_of(signal) for signal in signals]
    columns = {name: [i for i, kind in enumerate(kinds) if kind == of] for name, of in ((ALL, NUMBER), (EMBEDDING, EMBEDDING))}
    return {name: found for name, found in columns.items() if len(found) > 1}
