"""Counts by minute over the last hours, and what trends in them. Pure; `faust_views.py` keeps one of each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.durations import MINUTE_MS


class Positions:
    """Which records were counted: a group that comes back to an older commit shows some of them again."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, int], int] = {}

    def is_new(self, topic: str, partition: int, offset: int) -> bool:
        """Whether this record was not there before; from now on it was. Offsets of a partition must not go forth and back."""
        if offset < self._next.get((topic, partition), 0):
            return False
        self._next[topic, partition] = offset + 1
        return True


class Minutes:
    """How often each name came in each of the last minutes. Bounded by minutes times names."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._minutes: dict[int, Counter[str]] = {}

    def add(self, name: str, at_ms: int, now_ms: int) -> None:
        """What is older than the minutes that are kept is left out, and what is further ahead than that."""
        minute, oldest = at_ms // MINUTE_MS, now_ms // MINUTE_MS - self._keep
        if not oldest < minute <= now_ms // MINUTE_MS + self._keep:
            return
        self._minutes.setdefault(minute, Counter())[name] += 1
        for gone in [one for one in self._minutes if one <= oldest]:
            del self._minutes[gone]

    def total(self, now_ms: int, minutes: int, ago: int = 0) -> Counter[str]:
        """By name over `minutes` minutes: the last of them is the one that is filling, or that of `ago` minutes before."""
        last = now_ms // MINUTE_MS - ago
        found: Counter[str] = Counter()
        for minute in range(last - minutes + 1, last + 1):
            found.update(self._minutes.get(minute, Counter()))
        return found

    def series(self, now_ms: int) -> dict[str, list[int]]:
        """By name, the count of each minute that is kept, oldest first; the last one is still filling."""
        last = now_ms // MINUTE_MS
        minutes = range(last - self._keep + 1, last + 1)
        names = sorted({name for minute in minutes for name in self._minutes.get(minute, ())})
        return {name: [self._minutes.get(minute, Counter())[name] for minute in minutes] for name in names}


@dataclass(frozen=True, slots=True)
class Trend:
    """rise: how far the count is above the window before, in standard deviations of a Poisson count of that size."""

    name: str
    count: int
    before: int
    rise: float


def trending(now: Mapping[str, int], before: Mapping[str, int], limit: int) -> list[Trend]:
    """The names that rise most, those that only fell left out."""
    found = [
        Trend(name, count, before.get(name, 0), (count - before.get(name, 0)) / math.sqrt(before.get(name, 0) + 1))
        for name, count in now.items()
    ]
    return sorted((one for one in found if one.rise > 0), key=lambda one: (-one.rise, one.name))[:limit]
