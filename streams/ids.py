"""Request ids: UUIDv7 (RFC 9562), whose first 48 bits tell the time in milliseconds."""

from __future__ import annotations

import hashlib
import os
import uuid


def uuid7(now_ms: int) -> str:
    random = int.from_bytes(os.urandom(10), "big")
    value = (now_ms & (2**48 - 1)) << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def time_ms_of(request_id: str) -> int | None:
    """The time in a UUIDv7, or None where the id is not one."""
    try:
        value = uuid.UUID(request_id)
    except ValueError:
        return None
    return value.int >> 80 if value.version == 7 else None


def derived(topic: str, partition: int, offset: int, timestamp_ms: int) -> str:
    """The id of a record that came without one: the same each time that record is read.

    A UUIDv7 by form: the broker's timestamp, and a digest of the position in place of random bits.
    """
    digest = hashlib.sha256(f"{topic}/{partition}/{offset}".encode()).digest()
    value = (max(0, timestamp_ms) & (2**48 - 1)) << 80 | int.from_bytes(digest[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
