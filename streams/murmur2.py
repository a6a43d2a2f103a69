"""murmur2 as Kafka's Java client uses it for keys (`murmur2_random` in librdkafka): which partition the records of a key are in."""

from __future__ import annotations

_M = 0x5BD1E995
_SEED = 0x9747B28C
_U32 = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    length = len(data)
    h = (_SEED ^ length) & _U32
    whole = length - length % 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _U32
        k = (k ^ k >> 24) * _M & _U32
        h = (h * _M & _U32) ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _U32
    h = (h ^ h >> 13) * _M & _U32
    return h ^ h >> 15


def partition_of(key: bytes | None, partitions: int) -> int:
    return 0 if key is None else (murmur2(key) & 0x7FFFFFFF) % partitions
