"""Which frames of a moving picture are looked at, from the times at which each begins to stand. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


def standing(starts_s: Sequence[float], end_s: float, most: int) -> list[int]:
    """Numbers of at most `most` frames, in order: all where there are no more; else those that stand at the middle of equal
    stretches, and in the place of one that stands at several, those that stand longest of the others.

    starts_s: ascending; the frame that stands at a time is the last that began at or before it.
    """
    n = len(starts_s)
    if n <= most:
        return list(range(n))
    length_s = max(0.0, end_s - starts_s[0])
    middles = [starts_s[0] + (i + 0.5) * length_s / most for i in range(most)]
    picked = {max(0, bisect_right(starts_s, at_s) - 1) for at_s in middles}
    lasts_s = [after - before for before, after in zip(starts_s, [*starts_s[1:], end_s], strict=True)]
    for number in sorted(range(n), key=lambda i: -lasts_s[i]):
        if len(picked) >= most:
            break
        picked.add(number)
    return sorted(picked)
