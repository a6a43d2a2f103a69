"""Compares two versions on the same n examples: the difference of their accuracies, which depends only on the examples where they
differ. Pure.

Uses the score interval of T. Tango (1998), "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", Statistics in Medicine 17, 891-908. Its variance is the one at the margin, so that few or no differing
examples do not look certain: if no example of n differs, the interval is about -3.84 / n to 3.84 / n. `bench gate` measures its
coverage.
"""

from __future__ import annotations

import math

Z = 1.959964  # two-sided 95 %, so 2.5 % on the side that decides the verdict
Z_POWER = 0.841621  # 80 %
STEPS = 60  # of the bisection: beyond the precision of a float


def score(gained: int, lost: int, n: int, difference: float) -> float:
    """How far the examples are above a true difference, in standard deviations at that difference."""
    a = 2.0 * n
    b = -gained - lost + (2.0 * n - gained + lost) * difference
    c = -lost * difference * (1.0 - difference)
    lost_share = (math.sqrt(max(0.0, b * b - 4.0 * a * c)) - b) / (2.0 * a)  # the most likely share under that difference
    variance = n * (2.0 * lost_share + difference * (1.0 - difference))
    above = gained - lost - n * difference
    if variance <= 1e-12:
        return 0.0 if abs(above) < 1e-9 else math.copysign(math.inf, above)
    return above / math.sqrt(variance)


def interval(gained: int, lost: int, n: int, z: float = Z) -> tuple[float, float]:
    """Interval of the new accuracy minus the old. gained: examples that only the new version answers right; lost: only the old
    one. -1 to 1 without examples."""
    if not n:
        return -1.0, 1.0
    found = (gained - lost) / n
    return _bound(gained, lost, n, -1.0, found, z), _bound(gained, lost, n, 1.0, found, -z)


def _bound(gained: int, lost: int, n: int, outside: float, inside: float, z: float) -> float:
    """The difference at which the score is z, between an excluded difference and the measured one."""
    for _ in range(STEPS):
        middle = (outside + inside) / 2
        if abs(score(gained, lost, n, middle)) > abs(z):
            outside = middle
        else:
            inside = middle
    return (outside + inside) / 2


def needed(differ: float, margin: float) -> int:
    """Number of examples with which an equal version passes in about 80 of 100 cases. differ: share of the examples on which the
    versions differ."""
    b = differ + 2.0 * margin
    lost_share = (
        math.sqrt(b * b - 4.0 * differ * margin * (1.0 + margin)) + b
    ) / 4.0  # the most likely share at the margin, as in `score`
    at_margin = 2.0 * lost_share - margin * (1.0 + margin)
    return math.ceil(((Z * math.sqrt(at_margin) + Z_POWER * math.sqrt(differ)) / margin) ** 2)


def wilson(hits: int, n: int, z: float = 1.644854) -> tuple[float, float]:
    """Interval of a share (E. B. Wilson 1927), with 5 % on each side. 0 to 1 without examples."""
    if not n:
        return 0.0, 1.0
    share, weight = hits / n, z * z / n
    middle, radius = share + weight / 2, z * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    return max(0.0, (middle - radius) / (1 + weight)), min(1.0, (middle + radius) / (1 + weight))
