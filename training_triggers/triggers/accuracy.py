"""Accuracy below its baseline: the share of right answers fell by more than five points, and not by chance.

One-sided two-proportion z-test with the pooled variance of both baseline and window. `version_watch.py` spends alpha over the
windows, so that a version with constant accuracy leads to a training request with a chance of at most alpha, however long it
answers.
"""

from __future__ import annotations

import math

from schemas.signals import ANSWER
from training_triggers.triggers.baseline_spread import Sizes
from training_triggers.triggers.trigger import Finding, Floats, inflation


class Accuracy:
    """Works on a signal that is 1 if an answer was right and 0 if it was wrong."""

    name = "accuracy"
    of = ANSWER
    least_effect = 0.05

    def compare(self, baseline: Floats, window: Floats, sizes: Sizes | None = None) -> Finding:
        fall = float(baseline.mean() - window.mean())
        z, p_value = fall_test(baseline, window, sizes)
        return Finding(z, p_value, max(0.0, fall))


def fall_test(baseline: Floats, window: Floats, sizes: Sizes | None) -> tuple[float, float]:
    """z of the fall of a share, and the chance of at least that z if nothing fell. baseline, window: float64 (n,), 1 or 0
    each."""
    fall = float(baseline.mean() - window.mean())
    pooled = float((baseline.sum() + window.sum()) / (len(baseline) + len(window)))
    variance = pooled * (1 - pooled) * (1 / len(baseline) + 1 / len(window)) * inflation(baseline, window, sizes)
    if variance <= 0.0:
        return 0.0, 1.0
    z = fall / math.sqrt(variance)
    return z, 0.5 * math.erfc(z / math.sqrt(2))


TRIGGER = Accuracy()
