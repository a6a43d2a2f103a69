"""Which finished outcomes may enter the transaction: those that end a prefix of every partition they touch.

A transaction commits one offset per partition, so it may contain only outcomes below the lowest unfinished offset. An
outcome can span partitions (one batch, many partitions); it is released whole or not at all. The result is the largest set of
outcomes without a gap: start with all, remove those above a gap, and repeat, since each removed outcome leaves a gap of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from streams.rows import OutRecords, Place, Rows


@dataclass(slots=True)
class Ended:
    """Rows whose end is decided, with all records to be written for them. rejected: they go to the dead-letter topic."""

    rows: Rows
    records: list[OutRecords]
    rejected: bool = False
    spans: dict[Place, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.spans = self.rows.spans()


def releasable(held: list[Ended], lowest_unfinished: Callable[[Place], int]) -> tuple[list[Ended], list[Ended], dict[Place, int]]:
    """(released, still held, limit of each place touched): the released outcomes end every offset below a limit."""
    limits: dict[Place, int] = {}
    for ended in held:
        for place in ended.spans:
            if place not in limits:
                limits[place] = lowest_unfinished(place)
    out = held
    while True:
        kept: list[Ended] = []
        stuck = False
        for ended in out:
            if all(high < limits[place] for place, (_, high) in ended.spans.items()):
                kept.append(ended)
                continue
            stuck = True
            for place, (low, _) in ended.spans.items():
                limits[place] = min(limits[place], low)
        if not stuck:
            break
        out = kept
    if len(out) == len(held):
        return held, [], limits
    let_out = {id(ended) for ended in out}
    return out, [ended for ended in held if id(ended) not in let_out], limits
