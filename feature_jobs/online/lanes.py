"""Several sums in one integer, each in a lane of its own, so that one addition adds all of them: in CPython about a tenth of the time
that an addition per sum takes.

A lane has 96 bits: 64 for a sum, and 32 more, so that no number of tiles that fits into memory can carry over into the next lane.
Differences may be negative in between; what they are added to is exact as long as each of its sums is 0 or more. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_BYTES, _BITS = 12, 96
_LARGEST_SUM = 2**63 - 1


class Lanes:
    """Integers with a fixed number of lanes."""

    def __init__(self, count: int) -> None:
        self._count, self._bytes = count, _BYTES * count
        self._low = struct.Struct("<" + "q4x" * count)  # what a lane has beyond 64 bits is zero
        self._beyond = sum((2**_BITS - 1 - _LARGEST_SUM) << _BITS * lane for lane in range(count))

    def of(self, sums: Sequence[int]) -> int:
        """sums: each 0 or more; usually below 2**63, but tiles of an archive that are added up may be larger."""
        try:
            return int.from_bytes(self._low.pack(*sums), "little")
        except struct.error:
            return sum(value << _BITS * lane for lane, value in enumerate(sums))

    def sums(self, lanes: int) -> tuple[int, ...]:
        """The sums, each 0 or more; a sum of over 63 bits as it is."""
        if lanes & self._beyond:
            return tuple((lanes >> _BITS * lane) & ((1 << _BITS) - 1) for lane in range(self._count))
        return self._low.unpack(lanes.to_bytes(self._bytes, "little"))
