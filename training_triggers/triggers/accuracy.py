"""Accuracy under its baseline: the share of right answers fell by more than five points, and not by chance.

One-sided two-proportion z-test with the pooled variance.
"""

from __future__ import annotations

import math

from schemas.signals import ANSWER
from training_triggers.triggers.trigger import Finding, Floats


class Accuracy:
    """Of a signal that is 1 where an answer was right and 0 where it was wrong."""

    name = "accuracy"
    of = ANSWER
    least_effect = 0.05

    def compare(self, baseline: Floats, window: Floats) -> Finding:
        before, after = float(baseline.mean()), float(window.mean())
        fall = before - after
        pooled = float((baseline.sum() + window.sum()) / (len(baseline) + len(window)))
        error = math.sqrt(pooled * (1 - pooled) * (1 / len(baseline) + 1 / len(window)))
        if error == 0.0:
            return Finding(0.0, 1.0 if fall <= 0 else 0.0, max(0.0, fall))
        z = fall / error
        return Finding(z, 0.5 * math.erfc(z / math.sqrt(2)), max(0.0, fall))


TRIGGER = Accuracy()
