"""Which labels are in time for the join with their predictions: `labels-v1` to `labels-timely-v1`. Pure.

The join (Flink, `feature_jobs/jobs/outcomes.py`) drops a prediction some time after the horizon. Whether a label counts must not
depend on that moment, so this module decides it once, by the times in the records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.topics import LABEL_HORIZON_MS
from streams.ids import time_ms_of


def is_timely(label: Mapping[str, Any], taken_ms: int) -> bool:
    """taken_ms: the broker's time of the label. A label whose request id has no time (it is not a UUIDv7) is never late."""
    asked_ms = time_ms_of(label["request_id"])
    return asked_ms is None or taken_ms - asked_ms <= LABEL_HORIZON_MS
