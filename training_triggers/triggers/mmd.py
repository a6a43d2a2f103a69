"""Maximum mean discrepancy: do two samples of vectors come from one distribution? It sees changes that no single column shows,
such as two signals that now rise and fall together and did not before.

Gretton, Borgwardt, Rasch, Schölkopf and Smola 2012, "A kernel two-sample test": the unbiased estimate with a Gaussian kernel
whose width is the median distance. The p-value comes from a gamma distribution with the mean and variance of the biased estimate
over permutations (their section 4; the first two moments of weighted chi-squares, Satterthwaite 1946), so that it can be smaller
than permutations can count. If entries are not independent, it is scaled by the design effect (Rao and Scott 1981, second order).
Columns are scaled by the baseline's spread; missing values are placed six spreads below. Effect: the square root of the estimate,
0 to about 1.4.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.signals import ALL, EMBEDDING
from training_triggers.triggers.baseline_spread import Sizes
from training_triggers.triggers.trigger import Finding, Floats, chi_square_p

MOST = 1_000  # entries per sample: the kernel has four times the square of it, and a comparison takes a tenth of a second
PERMUTATIONS = 200
SEED = 20_240_501
MISSING = -6.0
Singles = npt.NDArray[np.float32]


class MeanDiscrepancy:
    name = "mmd"

    def __init__(self, of: str, least_effect: float) -> None:
        self.of, self.least_effect = of, least_effect

    def compare(self, baseline: Floats, window: Floats, sizes: Sizes | None = None) -> Finding:
        """baseline, window: float64 (n, columns), or (n,) for one column."""
        random = np.random.default_rng(SEED)
        a, b = (_some(one.reshape(len(one), -1), random) for one in _scaled(baseline, window))
        n, both = len(a), np.concatenate([a, b]).astype(np.float32)
        if n < 2 or len(b) < 2:
            return Finding(0.0, 1.0, 0.0)
        squares = (both**2).sum(axis=1)
        distances = np.maximum(0.0, squares[:, None] + squares[None, :] - 2 * both @ both.T)
        width = float(np.median(distances[np.triu_indices(len(both), 1)])) or 1.0
        kernel = np.exp(-distances / width)
        np.fill_diagonal(kernel, 0.0)
        sides = np.zeros((len(both), PERMUTATIONS + 1), np.float32)
        sides[:n, 0] = 1.0
        for column in range(1, PERMUTATIONS + 1):
            sides[random.permutation(len(both))[:n], column] = 1.0
        values = _estimates(kernel, sides, n)
        bias = (1 / n + 1 / len(b)) * (1 - float(kernel.sum(dtype=np.float64)) / (len(both) * (len(both) - 1)))
        p = _p_value(values + bias, _inflation(n, len(b), len(baseline), len(window), sizes), sizes.evenness if sizes else 1.0)
        return Finding(float(values[0]), p, float(np.sqrt(max(0.0, values[0]))))


def _p_value(biased: Floats, inflation: float, evenness: float) -> float:
    """biased: float64 (1 + permutations,), the estimate, then those of the permutations."""
    mean, variance = float(biased[1:].mean()), float(biased[1:].var())
    if mean <= 0 or variance <= 0:
        return 1.0
    degrees = max(1.0, 2 * mean**2 / variance * evenness)
    return chi_square_p(float(biased[0]) * degrees / (mean * inflation), degrees)


def _inflation(n: int, m: int, baseline_n: int, window_n: int, sizes: Sizes | None) -> float:
    """Factor by which the variance between n and m entries drawn from baseline and window exceeds that of independent entries; at
    least 1."""
    if sizes is None:
        return 1.0
    drawn = 1 / n + 1 / m
    return max(1.0, (drawn - 1 / baseline_n - 1 / window_n + 1 / sizes.baseline + 1 / sizes.window) / drawn)


def _scaled(baseline: Floats, window: Floats) -> tuple[Floats, Floats]:
    finite = np.where(np.isfinite(baseline), baseline, np.nan)
    known = np.isfinite(baseline).any(axis=0)
    middle = np.where(known, np.nanmean(np.where(known, finite, 0.0), axis=0), 0.0)
    spread = np.where(known, np.nanstd(np.where(known, finite, 0.0), axis=0), 1.0)
    spread = np.where(spread > 0, spread, 1.0)
    first, second = (np.where(np.isfinite(one), (one - middle) / spread, MISSING) for one in (baseline, window))
    return first, second


def _some(sample: Floats, random: np.random.Generator) -> Floats:
    return sample if len(sample) <= MOST else sample[random.choice(len(sample), MOST, replace=False)]


def _estimates(kernel: Singles, sides: Singles, n: int) -> Floats:
    """The unbiased estimate for each column of sides, float64 (columns,). kernel: float32 (rows, rows). sides: float32 (rows,
    columns), 1 if a row is of the first sample. One product gives all three sums."""
    m = len(kernel) - n
    reached = kernel @ sides
    within_a = (sides * reached).sum(axis=0, dtype=np.float64)
    between = reached.sum(axis=0, dtype=np.float64) - within_a
    within_b = kernel.sum(dtype=np.float64) - within_a - 2 * between
    found: Floats = within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * between / (n * m)
    return found


TRIGGER = MeanDiscrepancy(ALL, 0.15)
EMBEDDINGS = MeanDiscrepancy(EMBEDDING, 0.05)  # of many columns that move together, each a little
