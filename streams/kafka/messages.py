"""Converts the client's results: messages to columns, and group metadata to its generation."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from streams.headers import readable
from streams.rows import Polled

_METADATA_HEAD = b"CGMDv2:"  # librdkafka's serialized group metadata; the generation follows as an int32


def generation_of(membership: bytes) -> int:
    """The generation (or member epoch) in serialized group metadata; -1 if the member has not joined."""
    if not membership.startswith(_METADATA_HEAD) or len(membership) < len(_METADATA_HEAD) + 4:
        return -1
    (generation,) = struct.unpack_from("<i", membership, len(_METADATA_HEAD))
    return int(generation)


def columns(messages: Sequence[Any]) -> Polled:
    """The client's messages as columns, with one method call per field and no object of ours per record."""
    return Polled(
        places=list(zip([m.topic() for m in messages], [m.partition() for m in messages], strict=True)),
        offsets=[m.offset() for m in messages],
        keys=[m.key() for m in messages],
        values=[m.value() for m in messages],
        headers=readable([m.headers for m in messages]),
        timestamps_ms=[m.timestamp()[1] for m in messages],
    )
