"""How far the windows of a baseline differ among themselves while nothing is wrong, by signal. Pure.

Entries are not independent: one author writes ten alike in a row, and nights are not days. n of them say as much as n / d independent ones,
where d is the design effect (Kish 1965, "Survey Sampling"): the variance of a sample's shares over that of independent entries. Tests that
count each sample as n / d keep their level (the first-order correction of Rao and Scott 1981, "The analysis of categorical data from complex
sample surveys"). d is measured on the shares of entries below the baseline's octiles, at two distances:

- within windows, by batch means at several lengths: bursts;
- between windows, where there are enough of them: what changes slowly, as a daily rhythm does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
QUANTILES = np.arange(1, 8) / 8
EDGES = len(QUANTILES) + 1  # and one for what is missing, which lies below all
PARTS = (20, 10)  # of a window, into which its batch means divide it
ROWS = 3 * EDGES + len(PARTS)  # of `packed`
BETWEEN_FROM = 4  # windows from which on their differences count
CAUTION = (
    0.67  # standard deviations by which a measured effect is taken for larger than measured: three in four times it is not larger
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many independent entries baseline and window count as. evenness: of several columns that are looked at together, 1 where all have
    the same design effect, towards 1 / columns where one of them has nearly all of it (Rao and Scott's second order)."""

    baseline: float
    window: float
    evenness: float = 1.0

    def inflation(self, baseline_n: int, window_n: int) -> float:
        """Of the variance of a difference between the two, over independent entries."""
        return (1 / self.baseline + 1 / self.window) / (1 / baseline_n + 1 / window_n)


@dataclass
class Spread:
    """edges: (EDGES, signals). shares, squares: sums of the windows' shares below each edge, and of their squares. within: sums of the
    variance of batch means times their length, (PARTS, signals), over all edges."""

    edges: Floats
    windows: int = 0
    shares: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    squares: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    within: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        if not self.shares.size:
            signals = self.edges.shape[1]
            self.shares, self.squares = np.zeros((EDGES, signals)), np.zeros((EDGES, signals))
            self.within = np.zeros((len(PARTS), signals))

    @classmethod
    def of(cls, window: Floats) -> Spread:
        """With its edges at the octiles of a first window, (entries, signals)."""
        lowest = np.full((1, window.shape[1]), -np.inf)
        return cls(np.concatenate([lowest, np.quantile(window, QUANTILES, axis=0, method="lower")]))

    def add(self, window: Floats) -> None:
        below = self._below(window)
        shares = below.mean(axis=0)
        self.windows, self.within = self.windows + 1, self.within + _batch_means(below)
        self.shares, self.squares = self.shares + shares, self.squares + shares**2

    def design_effects(self, window: Floats) -> Floats:
        """Of each signal of a window that is compared, at least 1: the largest of what is measured within the baseline's windows and this
        one together, within this one alone, and between the baseline's windows."""
        below, n = self._below(window), len(window)
        mean, own = self.shares / self.windows, below.mean(axis=0)
        alone, independent, one = _batch_means(below), _independent(mean), _independent(own)
        together = _ratio(self.within + alone, self.windows * independent + one)
        cautious = [[_caution((parts - 1) * (self.windows + 1))] for parts in PARTS]
        found = [np.ones((1, window.shape[1])), together * cautious, _ratio(alone, one)]
        if self.windows >= BETWEEN_FROM:
            variance = np.maximum(0.0, self.squares / self.windows - mean**2).sum(axis=0) * self.windows / (self.windows - 1)
            found.append(_ratio(variance * n, independent)[None] * _caution(self.windows - 1))
        effects: Floats = np.concatenate(found).max(axis=0)
        return effects

    def sizes(self, effects: Floats, n: int) -> Sizes:
        """Of a baseline and a window of n entries each. effects: of the columns that are looked at together, or of one. The baseline is drawn from all
        its windows, so that it depends on each only by its part."""
        effect = float(effects.mean())
        evenness = float(effects.sum() ** 2 / (len(effects) * (effects**2).sum()))
        return Sizes(n / (1 + (effect - 1) / self.windows), n / effect, evenness)

    def only(self, columns: Sequence[int]) -> Spread:
        """Of these signals."""
        kept = list(columns)
        return Spread(self.edges[:, kept], self.windows, self.shares[:, kept], self.squares[:, kept], self.within[:, kept])

    def packed(self) -> bytes:
        return np.concatenate([self.edges, self.shares, self.squares, self.within]).astype("<f8").tobytes()

    @classmethod
    def unpacked(cls, raw: bytes, windows: int, signals: int) -> Spread:
        """Raises ValueError where it has another number of signals."""
        rows = np.frombuffer(raw, "<f8").reshape(ROWS, signals)
        return cls(rows[:EDGES], windows, rows[EDGES : 2 * EDGES], rows[2 * EDGES : 3 * EDGES], rows[3 * EDGES :])

    def _below(self, window: Floats) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = window[:, None, :] <= self.edges[None]
        return found


def _batch_means(below: npt.NDArray[np.bool_]) -> Floats:
    """For each number of parts, the variance of the parts' shares times their length, summed over the edges: (PARTS, signals). From the differences of
    neighbours (von Neumann 1941), so that a window within which something changed for good, once, is not taken for one of bursts."""
    found = []
    for parts in PARTS:
        length = len(below) // parts
        shares = below[: parts * length].reshape(parts, length, *below.shape[1:]).mean(axis=1)
        found.append((np.diff(shares, axis=0) ** 2).mean(axis=0).sum(axis=0) / 2 * length)
    return np.array(found)


def _independent(shares: Floats) -> Floats:
    """What the variance of one entry's indicators would be if entries were independent, summed over the edges."""
    found: Floats = (shares * (1 - shares)).sum(axis=0)
    return found


def _ratio(measured: Floats, independent: Floats) -> Floats:
    """0 for a signal that does not move: it has no variance to compare."""
    measured, independent = np.broadcast_arrays(measured, independent)
    return np.divide(measured, independent, out=np.zeros(measured.shape), where=independent > 1e-12)


def _caution(degrees: int) -> float:
    """By what a variance of so many degrees of freedom is multiplied to be too small only one time in four (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * degrees)
    return 1.0 / max(0.05, 1 - spread - CAUTION * math.sqrt(spread)) ** 3
