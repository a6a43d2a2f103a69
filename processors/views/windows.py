"""Counts per minute over the last hours, and trends in the counts. Pure; `faust_views.py` keeps the instances."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.durations import MINUTE_MS


class Positions:
    """Which records were counted. A group that goes back to an older commit reads some of them again."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, int], int] = {}

    def is_new(self, topic: str, partition: int, offset: int) -> bool:
        """Mark this record as counted, and return whether it was not counted before. Offsets of a partition must come in
        order."""
        if offset < self._next.get((topic, partition), 0):
            return False
        self._next[topic, partition] = offset + 1
        return True


class Minutes:
    """Count of each name in each of the last minutes. Its size is bounded by minutes times names."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._minutes: dict[int, Counter[str]] = {}

    def add(self, name: str, at_ms: int, now_ms: int) -> None:
        """Ignores times that are older than the kept minutes, or equally far in the future."""
        minute, oldest = at_ms // MINUTE_MS, now_ms // MINUTE_MS - self._keep
        if not oldest < minute <= now_ms // MINUTE_MS + self._keep:
            return
        self._minutes.setdefault(minute, Counter())[name] += 1
        for expired in [kept for kept in self._minutes if kept <= oldest]:
            del self._minutes[expired]

    def total(self, now_ms: int, minutes: int, ago: int = 0) -> Counter[str]:
        """Count of each name over `minutes` minutes; the last is the current minute, or the one `ago` minutes before it."""
        last = now_ms // MINUTE_MS - ago
        counts: Counter[str] = Counter()
        for minute in range(last - minutes + 1, last + 1):
            counts.update(self._minutes.get(minute, Counter()))
        return counts

    def series(self, now_ms: int) -> dict[str, list[int]]:
        """Per name, the count of each kept minute, oldest first; the last one is the current minute."""
        last = now_ms // MINUTE_MS
        minutes = range(last - self._keep + 1, last + 1)
        names = sorted({name for minute in minutes for name in self._minutes.get(minute, ())})
        return {name: [self._minutes.get(minute, Counter())[name] for minute in minutes] for name in names}


@dataclass(frozen=True, slots=True)
class Trend:
    """rise: difference to the count of the window before, in standard deviations of a Poisson count of that size."""

    name: str
    count: int
    before: int
    rise: float


def trending(now: Mapping[str, int], before: Mapping[str, int], limit: int) -> list[Trend]:
    """The names whose counts rose most, without names whose counts did not rise."""
    trends = [
        Trend(name, count, before.get(name, 0), (count - before.get(name, 0)) / math.sqrt(before.get(name, 0) + 1))
        for name, count in now.items()
    ]
    return sorted((trend for trend in trends if trend.rise > 0), key=lambda trend: (-trend.rise, trend.name))[:limit]
