"""Training sets against brute force: the last row at or before a label's time and within the ttl, ties included, no label lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.infra.offline_stores.dask import DaskOfflineStoreConfig

from feature_jobs.offline import feast_store
from feature_jobs.offline.lake import schema
from feature_jobs.offline.training_set import join, training_set
from schemas.durations import DAY_MS
from schemas.errors import BadSettings
from schemas.features import ITEM, USER, View

T0 = 1_795_000_000_000


def write_history(lake: Path, view: View, rows: list[tuple[str, int, int]]) -> None:
    """(entity, time, events_7d); everything else has its default. A file a day, as backfill writes them."""
    (lake / view.name).mkdir(parents=True)
    for day in {row[1] // DAY_MS for row in rows}:
        some = [row for row in rows if row[1] // DAY_MS == day]
        columns: dict[str, Any] = {f.name: [f.default] * len(some) for f in view.features}
        columns |= {
            f"{view.entity}_id": [r[0] for r in some],
            "event_timestamp": [r[1] * 1000 for r in some],
            "events_7d": [r[2] for r in some],
        }
        pq.write_table(pa.table(columns, schema=schema(view)), lake / view.name / f"{np.datetime64(day, 'D')}.parquet")


def expected(rows: list[tuple[str, int, int]], entity: str, at_ms: int, ttl_ms: int) -> int | None:
    held = [(ms, value) for one, ms, value in rows if one == entity and at_ms - ttl_ms <= ms <= at_ms]
    return max(held)[1] if held else None


@pytest.mark.parametrize("seed", range(3))
def test_each_label_gets_the_values_of_its_time(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    entities = [f"u-{i}" for i in range(12)]
    times = {(str(random.choice(entities)), T0 + int(random.integers(0, 6 * DAY_MS)) // 1000 * 1000) for _ in range(400)}
    rows = [(entity, ms, i) for i, (entity, ms) in enumerate(sorted(times))]
    write_history(tmp_path, USER, rows)
    labels = [(str(random.choice([*entities, "nobody"])), T0 + int(random.integers(-DAY_MS, 9 * DAY_MS))) for _ in range(300)]
    labels += [(entity, ms) for entity, ms, _ in rows[:40]]  # at the very time of a row
    labels += [(entity, ms + USER.ttl_ms + step) for entity, ms, _ in rows[40:60] for step in (-1, 0, 1)]  # around its end
    labels += labels[:25]  # two labels of one entity and time
    random.shuffle(labels)
    frame = pd.DataFrame(
        {"user_id": [e for e, _ in labels], "event_timestamp": pd.to_datetime([ms for _, ms in labels], unit="ms", utc=True)}
    )
    found = join(frame, tmp_path, "redis://127.0.0.1:1/0", ["user_features"])
    given = [None if pd.isna(value) else int(value) for value in found["user_features__events_7d"]]
    assert given == [expected(rows, entity, ms, USER.ttl_ms) for entity, ms in labels]


def test_labels_of_two_entities_get_both_views(tmp_path: Path) -> None:
    write_history(tmp_path, USER, [("u", T0, 1)])
    write_history(tmp_path, ITEM, [("i", T0, 2)])
    file, out = tmp_path / "labels.csv", tmp_path / "out.csv"
    at = pd.Timestamp(T0 + 5, unit="ms", tz="UTC").isoformat()
    file.write_text(f"user_id,item_id,event_timestamp,clicked\nu,i,{at},1\nu,nothing,{at},0\n")
    assert training_set(file, out, tmp_path, "redis://127.0.0.1:1/0") == (2, 2, 0)
    found = pd.read_csv(out)
    assert found["clicked"].tolist() == [1, 0]
    assert found["user_features__events_7d"].tolist() == [1, 1]
    assert found["item_features__events_7d"].isna().tolist() == [False, True]


def test_an_engine_that_loses_labels_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feast's dask engine drops a label whose features are older than the ttl; so it is not used, and this shows the guard."""
    write_history(tmp_path, USER, [("u", T0, 1)])
    monkeypatch.setattr(feast_store, "DuckDBOfflineStoreConfig", DaskOfflineStoreConfig)
    frame = pd.DataFrame({"user_id": ["u", "u"], "event_timestamp": pd.to_datetime([T0, T0 + 5 * DAY_MS], unit="ms", utc=True)})
    with pytest.raises(BadSettings, match="drops or doubles"):
        join(frame, tmp_path, "redis://127.0.0.1:1/0", ["user_features"])


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("who,when\nu,1\n")
    with pytest.raises(BadSettings, match="user_id or item_id, and event_timestamp are needed"):
        training_set(file, tmp_path / "o.csv", tmp_path, "redis://127.0.0.1:1/0")
    file.write_text("user_id,event_timestamp\nu,2026-11-18\n")
    with pytest.raises(BadSettings, match="features backfill"):
        training_set(file, tmp_path / "o.csv", tmp_path, "redis://127.0.0.1:1/0")
