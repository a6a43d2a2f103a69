"""Bounds of one loop, and its delivery guarantee."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Delivery(Enum):
    EXACTLY_ONCE = "exactly-once"
    AT_LEAST_ONCE = "at-least-once"


@dataclass(frozen=True, kw_only=True)
class LoopLimits:
    """Bounds of one loop. What waits in memory is at most the look-ahead, in records and in bytes."""

    delivery: Delivery = Delivery.EXACTLY_ONCE
    poll_records: int = 500
    idle_wait_ms: float = 200.0
    commit_interval_ms: float = 100.0
    look_ahead_records: int = 4_000
    look_ahead_bytes: int = 64 * 1024 * 1024
    commit_limit_s: float = 10.0
    drain_limit_s: float = 10.0
    outage_limit_s: float = 120.0
    max_failures_in_a_row: int = 100
