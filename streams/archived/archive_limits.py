"""Bounds of a loop whose step is a `ParquetStep`; without pyarrow, so that a process can say what it lacks."""

from __future__ import annotations

from streams.loop.batching import BatchLimits
from streams.loop.limits import Delivery, LoopLimits

# Rows that wait for a file count as in flight: the limits allow as much as a file may hold, and some more.
LIMITS = LoopLimits(
    delivery=Delivery.AT_LEAST_ONCE,
    poll_records=1_000,
    idle_wait_ms=200,
    commit_interval_ms=500,
    look_ahead_records=60_000,
    look_ahead_bytes=128 * 1024 * 1024,
)
IN_ORDER = BatchLimits(max_rows=500, in_order=True)  # a manifest says up to which offset everything is in files
