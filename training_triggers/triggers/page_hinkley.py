"""Page-Hinkley: the sum of the amounts by which answers fall short of their mean so far, minus a tolerance (Page 1954,
"Continuous inspection schemes"; Hinkley 1971; river's implementation). It is faster than windows if a fall is steady and small.
"""

from __future__ import annotations

from schemas.signals import ANSWER
from training_triggers.triggers.accuracy import fall_test
from training_triggers.triggers.baseline_spread import Sizes
from training_triggers.triggers.trigger import Finding, Floats

TOLERATED = 0.02  # per answer
THRESHOLD = 12.0  # wrong answers more than expected
LEAST_ANSWERS = 30


class PageHinkley:
    name = "page_hinkley"
    of = ANSWER
    least_effect = 0.05

    def compare(self, baseline: Floats, window: Floats, sizes: Sizes | None = None) -> Finding:
        from river.drift import PageHinkley as Detector  # imports scipy and pandas, which takes seconds

        detector, found = (
            Detector(min_instances=LEAST_ANSWERS, delta=TOLERATED, threshold=THRESHOLD, alpha=1.0, mode="down"),
            False,
        )
        for value in baseline.tolist():
            detector.update(value)
        for value in window.tolist():
            detector.update(value)
            found = found or bool(detector.drift_detected)
        fall = float(baseline.mean() - window.mean())
        return Finding(fall, fall_test(baseline, window, sizes)[1], max(0.0, fall) if found else 0.0)


TRIGGER = PageHinkley()
