"""Is one arm right less often than the other? The test is repeated after every answer and stays valid however often it is
repeated. Pure.

It uses the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas ("Time-uniform central limit theory
and asymptotic confidence sequences", Annals of Statistics 2024, theorem 2.2) on the difference of two shares. It contains the
true difference at all times at once with probability 1 - alpha, so an interval that excludes 0 is a finding, whenever it occurs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ALPHA = 0.05
TUNED_FOR = 200  # number of answers at which the interval is narrowest for its level


@dataclass(frozen=True, slots=True)
class Share:
    """Number of labelled answers, and how many of them were right."""

    labelled: int = 0
    right: int = 0

    @property
    def value(self) -> float:
        return self.right / self.labelled if self.labelled else 0.0


@dataclass(frozen=True, slots=True)
class PairedAnswers:
    """Number of labelled requests that two versions answered. gained: those that only the new version answered right; lost: those
    that only the old one answered right."""

    labelled: int = 0
    gained: int = 0
    lost: int = 0


def difference(new: Share, old: Share, alpha: float = ALPHA) -> tuple[float, float]:
    """Interval of new minus old; -1 to 1 if one of them has no answers."""
    if not new.labelled or not old.labelled:
        return -1.0, 1.0
    variance = sum(_variance(share) / share.labelled for share in (new, old))
    radius = _radius(variance, min(new.labelled, old.labelled), alpha)
    found = new.value - old.value
    return found - radius, found + radius


def paired_difference(both: PairedAnswers, alpha: float = ALPHA) -> tuple[float, float]:
    """Interval of new minus old on the same requests, so that requests that are hard for both cancel out; -1 to 1 without
    requests."""
    n = both.labelled
    if not n:
        return -1.0, 1.0
    found = (both.gained - both.lost) / n
    differ = (both.gained + both.lost + 2) / (n + 2)  # one more of each, so that a few equal answers do not look certain
    radius = _radius((differ - found**2) / n, n, alpha)
    return found - radius, found + radius


def _radius(variance: float, n: int, alpha: float) -> float:
    """Half the width of the interval. variance: of the difference, after n answers."""
    # rho: eq. (55) of the paper's appendix, the mixture's spread that is best at TUNED_FOR
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / TUNED_FOR
    return math.sqrt(variance * 2 * (n * rho2 + 1) / (n * rho2) * math.log(math.sqrt(n * rho2 + 1) / alpha))


def _variance(share: Share) -> float:
    """Variance of one answer. One right and one wrong answer are added, so that a few equal answers do not look certain."""
    p = (share.right + 1) / (share.labelled + 2)
    return p * (1 - p)
