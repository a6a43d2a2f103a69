"""Features of users as they were at their events: what a training set may know, and nothing later. Feast joins them on DuckDB."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from inference_workers.recommending.asked import FEATURES
from schemas.features import USER
from training_triggers.trainers.recommending.interactions import Interactions

NAMES = tuple(name for name in FEATURES if name not in USER.attribute_fields)  # those come with the profiles
NO_STORE = "redis://offline.invalid"  # history is read from files


def has_history(lake: Path) -> bool:
    """Whether `./millrace features backfill` wrote the history of users' features there."""
    return any((lake / USER.name).glob("*.parquet"))


def with_user_features(data: Interactions, lake: Path) -> Interactions:
    """The same events, each with the features that the store held of its user at its time; unknown ones where the day has no history.
    Raises BadSettings."""
    import pandas as pd

    from feature_jobs.offline.label_files import TIME
    from feature_jobs.offline.training_set import join, outside_of

    at_ms = pd.Series(np.round(data.time_s * 1000).astype(np.int64))
    frame = pd.DataFrame({"user_id": [data.users[user] for user in data.user], TIME: pd.to_datetime(at_ms, unit="ms", utc=True)})
    joined = join(frame, lake, NO_STORE, [USER.name])
    known = joined[[f"{USER.name}__{name}" for name in NAMES]].to_numpy(np.float32, na_value=np.nan)
    known[outside_of(at_ms, lake, USER).to_numpy()] = np.nan
    return replace(data, at_events=known, feature_names=NAMES)
