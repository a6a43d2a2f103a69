"""Training sets: labels joined with the features as they were at each label's time, by Feast on DuckDB.

Feast's dask engine drops labels that have no feature within the ttl, so it is not used, and the count is checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feature_jobs.feast_store import feature_store, names_of
from schemas.errors import BadSettings
from schemas.features import VIEWS


def training_set(labels: Path, out: Path, lake: Path, redis_url: str) -> tuple[int, int]:
    """Writes one row for each label, in its order, absent features as null. The rows, and how many have features.

    Raises BadSettings where the labels name no entity, or nothing was backfilled.
    """
    import pandas as pd

    frame = pd.read_parquet(labels) if labels.suffix == ".parquet" else pd.read_csv(labels)
    views = [view for view in VIEWS if f"{view.entity}_id" in frame.columns]
    if not views or "event_timestamp" not in frame.columns:
        keys = " or ".join(f"{view.entity}_id" for view in VIEWS)
        raise BadSettings(f"{labels} has columns {', '.join(frame.columns)}; {keys}, and event_timestamp are needed")
    for view in views:
        if not any((lake / view.name).glob("*.parquet")):
            raise BadSettings(f"no history of {view.name} in {lake}: `./millrace features backfill --from … --to …` writes it")
    joined = join(frame, lake, redis_url, [view.name for view in views])
    if out.suffix == ".csv":
        joined.to_csv(out, index=False)
    else:
        joined.to_parquet(out, index=False)
    return len(joined), int(joined[f"{views[0].name}__last_seen_ms"].notna().sum())


def join(frame: Any, lake: Path, redis_url: str, views: list[str]) -> Any:
    """The labels' frame with a column for each feature, named VIEW__FEATURE. Raises BadSettings where rows were lost."""
    import pandas as pd

    numbered = frame.copy()
    numbered["event_timestamp"] = pd.to_datetime(numbered["event_timestamp"], utc=True)
    numbered["label_number"] = range(len(numbered))
    store = feature_store(lake, redis_url)
    wanted = names_of([view for view in VIEWS if view.name in views])
    found = store.get_historical_features(entity_df=numbered, features=wanted, full_feature_names=True).to_df()
    found = found.sort_values("label_number").reset_index(drop=True)
    if len(found) != len(numbered) or not (found["label_number"] == range(len(numbered))).all():
        raise BadSettings(f"the join gave {len(found)} rows for {len(numbered)} labels: its engine drops or doubles rows")
    return found.drop(columns="label_number")
