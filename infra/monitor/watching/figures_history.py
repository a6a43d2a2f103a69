"""One hour of numbers in memory, and the lag in seconds derived from it. Pure: times are passed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from streams.rows import Place

EVERY_S = 2.0
KEPT_S = 3_600.0
SAMPLES = int(KEPT_S / EVERY_S)
MOST_SERIES = 4_000
MOST_ASKED = 400  # series per answer
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """at_ms: times, oldest first. series: values by name, None if unknown."""

    at_ms: list[int]
    series: dict[str, list[float | None]]


class History:
    """A ring of samples: one time per sample, one float32 per series, NaN if unknown. Safe to use from any thread."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self._lock = Lock()
        self._n, self._count = samples, 0
        self._times = np.zeros(samples, np.int64)
        self._series: dict[str, Floats] = {}

    def append(self, at_ms: int, values: Mapping[str, float]) -> None:
        """Series above MOST_SERIES are not kept: a name that keeps changing must not fill the memory."""
        with self._lock:
            row = self._count % self._n
            self._times[row] = at_ms
            for series in self._series.values():
                series[row] = np.nan
            for name, value in values.items():
                found = self._series.get(name)
                if found is None:
                    if len(self._series) >= MOST_SERIES:
                        continue
                    found = self._series[name] = np.full(self._n, np.nan, np.float32)
                found[row] = value
            self._count += 1

    def read(self, names: Iterable[str], from_ms: int = 0, most: int = 600) -> Samples:
        """names: of series; `*` in place of a part matches every value of it, at most MOST_ASKED in all. If there are more
        than `most` samples, neighbours are averaged."""
        with self._lock:
            chosen = [name for wanted in names for name in _matching(wanted, self._series)][:MOST_ASKED]
            return self._read(chosen, from_ms, most)

    def _read(self, names: Iterable[str], from_ms: int, most: int) -> Samples:
        kept = min(self._count, self._n)
        order = (np.arange(self._count - kept, self._count)) % self._n
        times = self._times[order]
        chosen = np.flatnonzero(times >= from_ms)
        order, times = order[chosen], times[chosen]
        step = max(1, -(-len(order) // most))
        cut = len(order) - len(order) % step if step > 1 else len(order)
        said: dict[str, list[float | None]] = {}
        for name in names:
            series = self._series.get(name)
            values = np.full(cut, np.nan, np.float32) if series is None else series[order[:cut]]
            said[name] = _means(values, step)
        return Samples(times[:cut][step - 1 :: step].tolist(), said)


def _matching(wanted: str, names: Iterable[str]) -> list[str]:
    if "*" not in wanted:
        return [wanted]
    head, _, tail = wanted.partition("*")
    return sorted(name for name in names if name.startswith(head) and name.endswith(tail) and len(name) >= len(wanted))


def _means(values: Floats, step: int) -> list[float | None]:
    parts = values.reshape(-1, step)
    known = ~np.isnan(parts)
    n = known.sum(axis=1)
    sums = np.where(known, parts, 0).sum(axis=1)
    return [float(total) / int(count) if count else None for total, count in zip(sums, n, strict=True)]


class Ends:
    """The ends of partitions over the last hour: they show when a position was the end, and so how old the first unread record
    is."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self._n, self._count = samples, 0
        self._times = np.zeros(samples, np.int64)
        self._ends: dict[Place, npt.NDArray[np.int64]] = {}

    def append(self, at_ms: int, ends: Mapping[Place, int]) -> None:
        row = self._count % self._n
        self._times[row] = at_ms
        for place, end in ends.items():
            found = self._ends.get(place)
            if found is None:
                found = self._ends[place] = np.full(self._n, end, np.int64)
            found[row] = end
        self._count += 1

    def age_s(self, place: Place, position: int, now_ms: int) -> float:
        """Seconds since the record at `position` was written, interpolated between samples as Kafka Lag Exporter does. If the
        record is older than the first sample, the result is a lower bound."""
        found = self._ends.get(place)
        kept = min(self._count, self._n)
        if found is None or not kept:
            return 0.0
        order = np.arange(self._count - kept, self._count) % self._n
        ends, times = found[order], self._times[order]
        i = int(np.searchsorted(ends, position, side="right"))  # the first sample that included the record
        if i == 0:
            return max(0.0, (now_ms - int(times[0])) / 1000)
        if i == kept:
            return 0.0
        share = (position - int(ends[i - 1])) / max(1, int(ends[i]) - int(ends[i - 1]))
        at_ms = int(times[i - 1]) + share * (int(times[i]) - int(times[i - 1]))
        return max(0.0, (now_ms - at_ms) / 1000)
