"""Which labels may still meet their predictions: `labels-v1` to `labels-timely-v1`. Pure.

The join that follows (Flink, `feature_jobs/jobs/outcomes.py`) forgets a prediction after the horizon, whenever it comes to
that. Whether a label counts must not hang on it, so it is decided here, once, from the times that the records carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.topics import LABEL_HORIZON_MS
from streams.ids import time_ms_of


def is_timely(label: Mapping[str, Any], taken_ms: int) -> bool:
    """taken_ms: the broker's time of the label. A request id that tells no time (it is no UUIDv7) is never late here."""
    asked_ms = time_ms_of(label["request_id"])
    return asked_ms is None or taken_ms - asked_ms <= LABEL_HORIZON_MS
