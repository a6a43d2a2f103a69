"""Zigzag varints of the Avro specification ("Binary encoding"), one by one and by column."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_MAX_BYTES = 10  # of a 64-bit varint


@lru_cache(maxsize=65_536)
def varint(value: int) -> bytes:
    """One varint; cached, because lengths repeat and a cached call is the fastest way in Python."""
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def varints(values: Ints) -> list[bytes]:
    """The varint of each of n values: a (n, 10) matrix of 7-bit groups, cut at each row's length."""
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    groups = (zigzag[:, None] >> np.arange(0, 70, 7, dtype=np.uint64)).astype(np.uint64)
    groups[:, 9] = zigzag >> np.uint64(63)
    low = (groups & np.uint64(0x7F)).astype(np.uint8)
    sizes = np.maximum(1, _MAX_BYTES - (low[:, ::-1] != 0).argmax(axis=1))
    sizes[zigzag == 0] = 1
    low |= np.where(np.arange(_MAX_BYTES) < (sizes - 1)[:, None], 0x80, 0).astype(np.uint8)
    data = low.tobytes()
    return [data[at : at + size] for at, size in zip(range(0, len(data), _MAX_BYTES), sizes.tolist(), strict=True)]


def read_varints(buffer: npt.NDArray[np.uint8], cursor: Ints) -> tuple[Ints, Ints]:
    """Read the varint at each cursor: (values, cursors after them), all int64 of shape (n,).

    `buffer` must have 10 readable bytes after every cursor. A varint of more than 10 bytes moves its cursor by 10: the caller
    then finds a value that passes the end of its row.
    """
    first = buffer[cursor]
    value = (first & 0x7F).astype(np.uint64)
    more = np.flatnonzero(first >= 0x80)
    after = cursor + 1
    shift = 7
    if more.size == len(cursor):  # all are long, as times in milliseconds are: no selection of rows is needed
        while more.size == len(cursor) and shift < 70:
            byte = buffer[after]
            value |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
            after += 1
            more = np.flatnonzero(byte >= 0x80)
            shift += 7
    while more.size and shift < 70:
        byte = buffer[after[more]]
        value[more] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
        after[more] += 1
        more = more[byte >= 0x80]
        shift += 7
    signed = (value >> np.uint64(1)).view(np.int64) ^ -(value & np.uint64(1)).view(np.int64)
    if more.size:
        signed[more] = np.iinfo(np.int64).min
    return signed, after
