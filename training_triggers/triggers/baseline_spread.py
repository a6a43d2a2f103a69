"""How much the windows of a baseline differ from each other while nothing is wrong, by signal. Pure.

Entries are not independent: one author writes ten similar entries in a row, and nights differ from days. n of them carry as much
information as n / d independent ones. d is the design effect (Kish 1965, "Survey Sampling"): the variance of a sample's shares
divided by that of independent entries. Tests that count each sample as n / d keep their level (the first-order correction of Rao
and Scott 1981, "The analysis of categorical data from complex sample surveys"). d is measured on the shares of entries below the
baseline's octiles, at two distances:

- within windows, by batch means at several lengths: this measures bursts;
- between windows, if there are enough of them: this measures slow changes, such as a daily rhythm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
QUANTILES = np.arange(1, 8) / 8
EDGES = len(QUANTILES) + 1  # and one for missing values, which are below all others
PARTS = (20, 10)  # numbers of parts into which the batch means divide a window
ROWS = 3 * EDGES + len(PARTS)  # of `packed`
BETWEEN_FROM = 4  # number of windows from which on their differences count
CAUTION = 0.67  # margin on a measured effect, in standard deviations: three in four times the true effect is not larger


@dataclass(frozen=True, slots=True)
class Sizes:
    """The number of independent entries that baseline and window count as. evenness: for several columns that are compared
    together, 1 if all have the same design effect, towards 1 / columns if one of them has nearly all of it (Rao and Scott's
    second order)."""

    baseline: float
    window: float
    evenness: float = 1.0

    def inflation(self, baseline_n: int, window_n: int) -> float:
        """Factor by which the variance of a difference between the two exceeds that of independent entries."""
        return (1 / self.baseline + 1 / self.window) / (1 / baseline_n + 1 / window_n)


@dataclass
class Spread:
    """edges: float64 (EDGES, signals). shares, squares: sums of the windows' shares below each edge, and of their squares, of the
    same shape. within: sums of the variance of batch means times their length, (PARTS, signals), over all edges."""

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
        """A spread with its edges at the octiles of a first window, float64 (entries, signals)."""
        lowest = np.full((1, window.shape[1]), -np.inf)
        return cls(np.concatenate([lowest, np.quantile(window, QUANTILES, axis=0, method="lower")]))

    def add(self, window: Floats) -> None:
        below = self._below(window)
        shares = below.mean(axis=0)
        self.windows, self.within = self.windows + 1, self.within + _batch_means(below)
        self.shares, self.squares = self.shares + shares, self.squares + shares**2

    def design_effects(self, window: Floats) -> Floats:
        """The design effect of each signal of a compared window, float64 (signals,), at least 1. window: float64 (entries,
        signals). It is the largest of the effects measured within the baseline's windows and this one together, within this one
        alone, and between the baseline's windows."""
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
        """Sizes for a baseline and a window of n entries each. effects: float64 (columns,), of the columns that are compared
        together, or of one. The baseline is drawn from all its windows, so each window's effect counts only by its share."""
        effect = float(effects.mean())
        evenness = float(effects.sum() ** 2 / (len(effects) * (effects**2).sum()))
        return Sizes(n / (1 + (effect - 1) / self.windows), n / effect, evenness)

    def only(self, columns: Sequence[int]) -> Spread:
        """The spread of these signals only."""
        kept = list(columns)
        return Spread(self.edges[:, kept], self.windows, self.shares[:, kept], self.squares[:, kept], self.within[:, kept])

    def packed(self) -> bytes:
        return np.concatenate([self.edges, self.shares, self.squares, self.within]).astype("<f8").tobytes()

    @classmethod
    def unpacked(cls, raw: bytes, windows: int, signals: int) -> Spread:
        """Raises ValueError if the number of signals differs."""
        rows = np.frombuffer(raw, "<f8").reshape(ROWS, signals)
        return cls(rows[:EDGES], windows, rows[EDGES : 2 * EDGES], rows[2 * EDGES : 3 * EDGES], rows[3 * EDGES :])

    def _below(self, window: Floats) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = window[:, None, :] <= self.edges[None]
        return found


def _batch_means(below: npt.NDArray[np.bool_]) -> Floats:
    """The variance of the parts' shares times their length, summed over the edges, for each number of parts: float64 (PARTS,
    signals). below: bool (entries, EDGES, signals). It is computed from the differences of neighbours (von Neumann 1941), so that
    one lasting change within a window is not mistaken for bursts."""
    found = []
    for parts in PARTS:
        length = len(below) // parts
        shares = below[: parts * length].reshape(parts, length, *below.shape[1:]).mean(axis=1)
        found.append((np.diff(shares, axis=0) ** 2).mean(axis=0).sum(axis=0) / 2 * length)
    return np.array(found)


def _independent(shares: Floats) -> Floats:
    """The variance of one entry's indicators if entries were independent, summed over the edges: float64 (signals,). shares:
    float64 (EDGES, signals)."""
    found: Floats = (shares * (1 - shares)).sum(axis=0)
    return found


def _ratio(measured: Floats, independent: Floats) -> Floats:
    """measured / independent, float64 of their common shape; 0 for a constant signal, which has no variance to compare."""
    measured, independent = np.broadcast_arrays(measured, independent)
    return np.divide(measured, independent, out=np.zeros(measured.shape), where=independent > 1e-12)


def _caution(degrees: int) -> float:
    """Factor that makes a variance with this many degrees of freedom too small only one time in four (Wilson and Hilferty
    1931)."""
    spread = 2 / (9 * degrees)
    return 1.0 / max(0.05, 1 - spread - CAUTION * math.sqrt(spread)) ** 3
