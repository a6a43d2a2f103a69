"""The columns that drift detectors watch: their kinds by name, and the name of a finding about several columns."""

from __future__ import annotations

from collections.abc import Sequence

SAID = "said"  # the predicted class, as a number
RIGHT = "right"  # whether the answer was right
EMBEDDED = "embedding "  # followed by a number: one column of an embedding, which has no meaning alone

NUMBER, CATEGORY, ANSWER = "number", "category", "answer"
ALL, EMBEDDING = "all signals together", "embedding"


def kind_of(signal: str) -> str:
    """The kind of value in a column."""
    return EMBEDDING if signal.startswith(EMBEDDED) else {RIGHT: ANSWER, SAID: CATEGORY}.get(signal, NUMBER)


def together(signals: Sequence[str]) -> dict[str, list[int]]:
    """Columns that are tested together, by the name that findings use for them."""
    kinds = [kind_of(signal) for signal in signals]
    columns = {name: [i for i, kind in enumerate(kinds) if kind == of] for name, of in ((ALL, NUMBER), (EMBEDDING, EMBEDDING))}
    return {name: found for name, found in columns.items() if len(found) > 1}
