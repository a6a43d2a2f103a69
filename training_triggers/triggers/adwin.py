"""Adaptive windowing: does the share of right answers fall at any point? (Bifet and Gavaldà 2007, "Learning from time-changing
data with adaptive windowing"; river's implementation.)

ADWIN reads baseline and window in order. If it cuts its memory inside the window, the part it kept is compared with the baseline.
Its own bound is valid for one stream of independent answers, so the fall must also be significant, as `accuracy` tests it.
"""

from __future__ import annotations

from schemas.signals import ANSWER
from training_triggers.triggers.accuracy import fall_test
from training_triggers.triggers.baseline_spread import Sizes
from training_triggers.triggers.trigger import Finding, Floats

DELTA = 0.002  # chance of a false cut, river's default


class AdaptiveWindow:
    name = "adwin"
    of = ANSWER
    least_effect = 0.05

    def compare(self, baseline: Floats, window: Floats, sizes: Sizes | None = None) -> Finding:
        from river.drift import ADWIN  # imports scipy and pandas, which takes seconds

        detector, cut = ADWIN(delta=DELTA), False
        for value in baseline.tolist():
            detector.update(value)
        for value in window.tolist():
            detector.update(value)
            cut = cut or bool(detector.drift_detected)
        fall = float(baseline.mean()) - float(detector.estimation)
        return Finding(fall, fall_test(baseline, window, sizes)[1], max(0.0, fall) if cut else 0.0)


TRIGGER = AdaptiveWindow()
