"""Population stability index: the symmetrised Kullback-Leibler divergence of two histograms, over the baseline's deciles.

By convention an index below 0.1 means no change and one from 0.2 on means a change (the rule of credit scoring, e.g. N. Siddiqi
2006, "Credit Risk Scorecards"). In small samples chance alone reaches that: between equal distributions the index divided by (1/n
+ 1/m) is approximately chi-square with bins - 1 degrees of freedom (B. Yurdakul 2018, "Statistical properties of population
stability index"), which gives the p-value.
"""

from __future__ import annotations

import numpy as np

from schemas.signals import NUMBER
from training_triggers.triggers.baseline_spread import Sizes
from training_triggers.triggers.trigger import Finding, Floats, chi_square_p

BINS = 10


def index(baseline: Floats, window: Floats, sizes: Sizes | None = None) -> tuple[float, int]:
    """The index, and its number of bins. baseline, window: float64 (n,), of any two lengths. Equal values share a bin, so a
    signal with few values has fewer bins; values below the whole baseline, such as newly missing ones, have a bin of their own.
    Half an independent entry is added to each bin, so that none is empty."""
    half = (len(baseline) / sizes.baseline / 2, len(window) / sizes.window / 2) if sizes else (0.5, 0.5)
    deciles = np.quantile(baseline, np.arange(1, BINS) / BINS, method="lower")
    edges = np.unique([np.nextafter(baseline.min(), -np.inf), *deciles])
    bins = len(edges) + 1
    expected = np.bincount(np.searchsorted(edges, baseline, "left"), minlength=bins) + half[0]
    found = np.bincount(np.searchsorted(edges, window, "left"), minlength=bins) + half[1]
    p, q = expected / expected.sum(), found / found.sum()
    return float(((q - p) * np.log(q / p)).sum()), bins


def p_value(found: float, n: float, m: float, bins: int) -> float:
    """Chance of an index of at least `found` between equal distributions."""
    return chi_square_p(found / (1 / n + 1 / m), bins - 1)


class StabilityIndex:
    name = "psi"
    of = NUMBER
    least_effect = 0.2

    def compare(self, baseline: Floats, window: Floats, sizes: Sizes | None = None) -> Finding:
        found, bins = index(baseline, window, sizes)
        n, m = (sizes.baseline, sizes.window) if sizes else (len(baseline), len(window))
        return Finding(found, p_value(found, n, m, bins), max(0.0, found))


TRIGGER = StabilityIndex()
