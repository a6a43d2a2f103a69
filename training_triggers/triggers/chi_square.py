"""Chi-square test of homogeneity for categories: are the predicted classes as frequent as before? (Pearson 1900.)

The p-value uses the approximation of Wilson and Hilferty 1931. Effect: total variation, half the sum of the absolute differences
of shares, so 0.1 means that a tenth of the answers moved to other classes.
"""

from __future__ import annotations

import numpy as np

from schemas.signals import CATEGORY
from training_triggers.triggers.baseline_spread import Sizes
from training_triggers.triggers.trigger import Finding, Floats, chi_square_p, inflation

RARE = 5  # a class with fewer entries, in both samples together, is counted with the other rare ones


class ChiSquare:
    name = "chi_square"
    of = CATEGORY
    least_effect = 0.1

    def compare(self, baseline: Floats, window: Floats, sizes: Sizes | None = None) -> Finding:
        classes, codes = np.unique(np.concatenate([baseline, window]), return_inverse=True)
        counts = np.stack(
            [np.bincount(part, minlength=len(classes)) for part in (codes[: len(baseline)], codes[len(baseline) :])]
        )
        rare = counts.sum(axis=0) < RARE
        counts = np.concatenate([counts[:, ~rare], counts[:, rare].sum(axis=1, keepdims=True)], axis=1)
        counts = counts[:, counts.sum(axis=0) > 0]
        totals = counts.sum(axis=1, keepdims=True)
        expected = totals * counts.sum(axis=0) / counts.sum()
        statistic = float(((counts - expected) ** 2 / expected).sum())
        effect = float(np.abs(np.diff(counts / totals, axis=0)).sum() / 2)
        degrees = counts.shape[1] - 1
        return Finding(
            statistic, chi_square_p(statistic / inflation(baseline, window, sizes), degrees) if degrees else 1.0, effect
        )


TRIGGER = ChiSquare()
