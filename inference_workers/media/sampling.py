"""Which frames of a video or animation are sampled, given the time at which each frame appears. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


def sampled(starts_s: Sequence[float], end_s: float, max_frames: int) -> list[int]:
    """Indices of at most `max_frames` frames, in order. All frames if there are no more. Otherwise the frames that are shown in the
    middle of `max_frames` equal intervals; if one frame covers several middles, the longest shown of the others fill up.

    starts_s: ascending; the frame shown at a time is the last one that started at or before it.
    """
    n = len(starts_s)
    if n <= max_frames:
        return list(range(n))
    length_s = max(0.0, end_s - starts_s[0])
    middles_s = [starts_s[0] + (i + 0.5) * length_s / max_frames for i in range(max_frames)]
    chosen = {max(0, bisect_right(starts_s, at_s) - 1) for at_s in middles_s}
    durations_s = [after - before for before, after in zip(starts_s, [*starts_s[1:], end_s], strict=True)]
    for index in sorted(range(n), key=lambda i: -durations_s[i]):
        if len(chosen) >= max_frames:
            break
        chosen.add(index)
    return sorted(chosen)
