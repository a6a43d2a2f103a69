"""Two-sample Kolmogorov-Smirnov test: the largest distance between two empirical distribution functions.

The p-value is the asymptotic one with Stephens' correction for finite samples (M. A. Stephens 1970, "Use of the
Kolmogorov-Smirnov, Cramér-von Mises and related statistics without extensive tables"). With ties it errs on the conservative
side.
"""

from __future__ import annotations

import math

import numpy as np

from schemas.signals import NUMBER
from training_triggers.triggers.baseline_spread import Sizes
from training_triggers.triggers.trigger import Finding, Floats


def distance(baseline: Floats, window: Floats) -> float:
    """max |F(x) - G(x)|, 0 to 1. baseline, window: float64 (n,), of any two lengths."""
    a, b = np.sort(baseline), np.sort(window)
    every = np.concatenate([a, b])
    below_a, below_b = np.searchsorted(a, every, "right") / len(a), np.searchsorted(b, every, "right") / len(b)
    return float(np.abs(below_a - below_b).max())


def p_value(d: float, n: float, m: float) -> float:
    """Chance of a distance of at least d between samples of n and m from one continuous distribution."""
    root = math.sqrt(n * m / (n + m))
    x = (root + 0.12 + 0.11 / root) * d
    if x < 0.2:
        return 1.0  # the series below does not converge there, and the p-value is practically 1
    total: float = sum((1 if k % 2 else -1) * math.exp(-2 * k * k * x * x) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * total))


class KolmogorovSmirnov:
    name = "ks"
    of = NUMBER
    least_effect = 0.1

    def compare(self, baseline: Floats, window: Floats, sizes: Sizes | None = None) -> Finding:
        d = distance(baseline, window)
        n, m = (sizes.baseline, sizes.window) if sizes else (len(baseline), len(window))
        return Finding(d, p_value(d, n, m), d)


TRIGGER = KolmogorovSmirnov()
