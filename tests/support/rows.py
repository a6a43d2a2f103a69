"""Rows as admission creates them, for steps that are called without a loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from streams.rows import Place, Rows


def rows_of(read: Sequence[tuple[Place, int]], epoch: int = 0, **columns: Sequence[Any]) -> Rows:
    """First attempts at plain requests without a deadline, read at these places and offsets.

    columns: the fields of Rows that differ, each with one value per row."""
    n = len(read)
    plain = Rows(
        places=[place for place, _ in read],
        offsets=[offset for _, offset in read],
        keys=[None] * n,
        values=[b"x"] * n,
        headers=[{} for _ in read],
        timestamps_ms=[0] * n,
        request_ids=[f"r{offset}" for _, offset in read],
        deadlines_ms=[0] * n,
        priorities=[4] * n,
        origins=[(*place, offset) for place, offset in read],
        attempts=[0] * n,
        redrives=[0] * n,
        sizes=[1] * n,
        epoch=epoch,
    )
    changed: dict[str, Any] = {name: list(values) for name, values in columns.items()}
    wrong = {name: len(values) for name, values in changed.items() if len(values) != n}
    assert not wrong, f"{n} rows, but {wrong}"
    if "sizes" not in changed:
        changed["sizes"] = [len(value or b"") for value in changed.get("values", plain.values)]
    return replace(plain, **changed)


def rows_at(place: Place, values: Sequence[bytes | None], first: int = 0, **columns: Sequence[Any]) -> Rows:
    """One row for each value, at consecutive offsets of a place from `first` on."""
    return rows_of([(place, first + i) for i in range(len(values))], 0, values=values, **columns)
