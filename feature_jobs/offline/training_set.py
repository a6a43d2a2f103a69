"""Training sets: labels joined with the features as they were at each label's time, by Feast on DuckDB.

Feast's dask engine drops labels that have no feature within the ttl, so it is not used, and the count is checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from feature_jobs.offline.feast_store import feature_store, names_of
from feature_jobs.offline.label_files import TIME, read_labels
from feature_jobs.offline.lake import covered
from schemas.durations import DAY_MS
from schemas.errors import BadSettings
from schemas.features import VIEWS, View

_ROW = "millrace_row"


class Joined(NamedTuple):
    """Numbers of labels: all of them, those with features, and those outside the days that were backfilled."""

    rows: int
    with_features: int
    outside: int


def training_set(labels: Path, out: Path, lake: Path, redis_url: str) -> Joined:
    """Write one row per label, in the labels' order, with absent features as null. Features of a label outside the backfilled
    days are unknown, so they are null, too.

    Raises BadSettings if the labels cannot be read (`feature_jobs/offline/label_files.py`), or nothing was backfilled.
    """
    import pandas as pd

    frame = read_labels(labels)
    views = [view for view in VIEWS if f"{view.entity}_id" in frame.columns]
    for view in views:
        if not any((lake / view.name).glob("*.parquet")):
            raise BadSettings(f"no history of {view.name} in {lake}: `./millrace features backfill --from … --to …` writes it")
    joined = join(frame, lake, redis_url, [view.name for view in views])
    at_ms = joined[TIME].astype("datetime64[ms, UTC]").astype("int64")
    anywhere = pd.Series(False, index=joined.index)
    outside = pd.Series(False, index=joined.index)
    for view in views:
        gone = outside_of(at_ms, lake, view)
        outside |= gone
        of_view = [name for name in joined.columns if str(name).startswith(f"{view.name}__")]
        joined.loc[gone, of_view] = None
        anywhere |= joined[f"{view.name}__last_seen_ms"].notna()
    if out.suffix == ".csv":
        joined.to_csv(out, index=False)
    else:
        joined.to_parquet(out, index=False)
    return Joined(len(joined), int(anywhere.sum()), int(outside.sum()))


def outside_of(at_ms: Any, lake: Path, view: View) -> Any:
    """Which labels are on no backfilled day, or later than the time up to which that day's file is complete."""
    days = covered(lake, view)
    return at_ms > (at_ms // DAY_MS).map(days).fillna(-1)


def join(frame: Any, lake: Path, redis_url: str, views: list[str]) -> Any:
    """The labels' frame with a column for each feature, named VIEW__FEATURE. Feast gets ids and times only, so that no column of
    the labels collides with one of Feast's. Raises BadSettings if rows were lost, or a column has the name of a feature
    column."""
    import pandas as pd

    chosen = [view for view in VIEWS if view.name in views]
    names = [f"{view.name}__{feature.name}" for view in chosen for feature in view.features]
    taken = sorted({str(name) for name in frame.columns} & set(names))
    if taken:
        raise BadSettings(f"the labels have columns named as features are: {', '.join(taken)}; give them other names")
    labels = frame.reset_index(drop=True)
    asked = pd.DataFrame({f"{view.entity}_id": labels[f"{view.entity}_id"].astype(str) for view in chosen})
    asked[TIME] = pd.to_datetime(labels[TIME], utc=True)
    asked[_ROW] = range(len(asked))
    store = feature_store(lake, redis_url)
    found = store.get_historical_features(entity_df=asked, features=names_of(chosen), full_feature_names=True).to_df()
    found = found.sort_values(_ROW).reset_index(drop=True)
    if len(found) != len(asked) or not (found[_ROW] == range(len(asked))).all():
        raise BadSettings(f"the join gave {len(found)} rows for {len(asked)} labels: its engine drops or doubles rows")
    return pd.concat([labels.assign(**{TIME: asked[TIME]}), found[names]], axis=1)
