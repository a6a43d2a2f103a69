"""Population stability index: the symmetrised Kullback-Leibler divergence of two histograms, over the baseline's deciles.

By convention below 0.1 nothing happened and from 0.2 on something did (the rule of credit scoring, e.g. N. Siddiqi 2006, "Credit
Risk Scorecards"). In small samples chance alone reaches that: between equal distributions the index over (1/n + 1/m) is about
chi-square with bins - 1 degrees of freedom (B. Yurdakul 2018, "Statistical properties of population stability index"), which gives
the p-value.
"""

from __future__ import annotations

import numpy as np

from schemas.signals import NUMBER
from training_triggers.triggers.baseline_spread import Sizes
from training_triggers.triggers.trigger import Finding, Floats, chi_square_p

BINS = 10


def index(baseline: Floats, window: Floats, sizes: Sizes | None = None) -> tuple[float, int]:
    """The index, and its number of bins. Equal values lie in one bin, so a signal of few values has fewer bins; what is below the whole baseline, as what is missing
    now, has one of its own. Each bin counts half an independent entry more than it has, so that none is empty."""
    half = (len(baseline) / sizes.baseline / 2, len(window) / sizes.window / 2) if sizes else (0.5, 0.5)
    deciles = np.quantile(baseline, np.arange(1, BINS) / BINS, method="lower")
    edges = np.unique([np.nextafter(baseline.min(), -np.inf), *deciles])
    bins = len(edges) + 1
    expected = np.bincount(np.searchsorted(edges, baseline, "left"), minlength=bins) + half[0]
    found = np.bincount(np.searchsorted(edges, window, "left"), minlength=bins) + half[1]
    p, q = expected / expected.sum(), found / found.sum()
    return float(((q - p) * np.log(q / p)).sum()), bins


def p_value(found: float, n: float, m: float, bins: int) -> float:
    """Of an index at least that large between equal distributions."""
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
