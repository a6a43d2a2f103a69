"""Several sums in one integer, each in a lane of its own, so that one addition adds all of them: in CPython about a tenth of the time
that an addition per sum takes.

A lane has 96 bits: 64 for a sum, and 32 more, so that no number of tiles that fits into memory can carry over into the next lane.
Differences may be negative in between; what they are added to is exact as long as each of its sums is 0 or more. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

_BYTES, _BITS = 12, 96


def lanes_of(sums: Iterable[int]) -> int:
    """sums: each from 0 to 2**63 - 1."""
    lanes = 0
    for at, value in enumerate(sums):
        lanes |= value << (_BITS * at)
    return lanes


class Lanes:
    """Reads integers with a fixed number of lanes."""

    def __init__(self, count: int) -> None:
        self._bytes = _BYTES * count
        self._halves = struct.Struct("<" + "qI" * count)

    def sums(self, lanes: int) -> tuple[int, ...]:
        """The sums, each 0 or more; a sum of over 63 bits as it is."""
        halves = self._halves.unpack(lanes.to_bytes(self._bytes, "little"))
        low, high = halves[::2], halves[1::2]
        if any(high) or min(low) < 0:
            return tuple((lanes >> _BITS * at) & ((1 << _BITS) - 1) for at in range(len(low)))
        return low
