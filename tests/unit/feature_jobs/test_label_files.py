"""Files of labels as people write them: ids stay what they are, and no time is taken for another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from feature_jobs.offline.label_files import read_labels
from feature_jobs.offline.lake import schema
from feature_jobs.offline.training_set import training_set
from schemas.durations import DAY_MS
from schemas.errors import BadSettings
from schemas.features import USER

T0 = 1_795_667_014_000  # 2026-11-26T04:23:34Z
ODD = ["007", "0042", "1.0", "1e5", "NA", "null", "None", "nan", "N/A", "-u", "--json", "true", " u", "u-1", "ü", "2026-11-26"]


def csv(folder: Path, text: str) -> Path:
    file = folder / "labels.csv"
    file.write_text(text)
    return file


def test_ids_are_texts_whatever_they_look_like(tmp_path: Path) -> None:
    file = csv(tmp_path, "user_id,event_timestamp,y\n" + "".join(f"{name},2026-11-26,1\n" for name in ODD))
    assert read_labels(file)["user_id"].tolist() == ODD
    whole = csv(tmp_path, "item_id,event_timestamp\n042,2026-11-26\n7,2026-11-26\n")
    assert read_labels(whole)["item_id"].tolist() == ["042", "7"]
    pd.DataFrame({"user_id": [7, 42], "event_timestamp": ["2026-11-26"] * 2}).to_parquet(tmp_path / "l.parquet")
    assert read_labels(tmp_path / "l.parquet")["user_id"].tolist() == ["7", "42"]
    pd.DataFrame({"user_id": [7.0, None], "event_timestamp": ["2026-11-26"] * 2}).to_parquet(tmp_path / "l.parquet")
    with pytest.raises(BadSettings, match="ids are texts"):
        read_labels(tmp_path / "l.parquet")


@pytest.mark.parametrize(
    ("written", "expected_ms"),
    [
        ("2026-11-26T04:23:34Z", T0),
        ("2026-11-26 04:23:34", T0),
        ("2026-11-26T05:23:34+01:00", T0),
        ("2026-11-26T04:23:34.250", T0 + 250),
        ("2026-11-26", T0 // DAY_MS * DAY_MS),
        ("1795667014", T0),
        ("1795667014.25", T0 + 250),
        ("1795667014250", T0 + 250),
        ("1795667014250000", T0 + 250),
    ],
)
def test_times_are_read_by_the_stated_rule(tmp_path: Path, written: str, expected_ms: int) -> None:
    found = read_labels(csv(tmp_path, f"user_id,event_timestamp\nu,2026-11-27\nv,{written}\n"))
    assert [int(at.timestamp() * 1000) for at in found["event_timestamp"]][1] == expected_ms
    pd.DataFrame({"user_id": ["u"], "event_timestamp": [written]}).to_parquet(tmp_path / "l.parquet")
    assert int(read_labels(tmp_path / "l.parquet")["event_timestamp"][0].timestamp() * 1000) == expected_ms


@pytest.mark.parametrize(
    "column", [[1_795_667_014], [1_795_667_014_000], [1_795_667_014.0], pd.to_datetime([T0], unit="ms", utc=True)]
)
def test_times_of_parquet_are_read_by_the_same_rule(tmp_path: Path, column: Any) -> None:
    pd.DataFrame({"user_id": ["u"], "event_timestamp": column}).to_parquet(tmp_path / "l.parquet")
    assert int(read_labels(tmp_path / "l.parquet")["event_timestamp"][0].timestamp() * 1000) == T0


@pytest.mark.parametrize(
    "written", ["", "0", "7", "179566701", "17956670140", "-1795667014", "20261126", "26/11/2026", "now", "NaT", "1e9"]
)
def test_times_that_may_mean_anything_are_refused_with_their_row(tmp_path: Path, written: str) -> None:
    with pytest.raises(BadSettings, match=r"event_timestamp of label 2 is .*; times are ISO 8601"):
        read_labels(csv(tmp_path, f"user_id,event_timestamp\nu,2026-11-27\nv,{written}\n"))


@pytest.mark.parametrize("text", ["", "user_id\n\x00,\n", "user_id;event_timestamp\nu;2026-11-26\n"])
def test_files_that_are_no_labels_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadSettings):
        read_labels(csv(tmp_path, text))
    with pytest.raises(BadSettings, match="not read"):
        read_labels(tmp_path / "nowhere.csv")
    (tmp_path / "l.parquet").write_text(text)
    with pytest.raises(BadSettings, match="not read"):
        read_labels(tmp_path / "l.parquet")


def test_columns_of_any_name_come_out_as_they_went_in(tmp_path: Path) -> None:
    """Whatever the join's engine names its own columns: labels keep theirs."""
    (tmp_path / USER.name).mkdir()
    pq.write_table(schema(USER).empty_table(), tmp_path / USER.name / "2026-11-26.parquet")
    names = ["label_number", "millrace_row", "entity_row_id", "event_timestamp_right", "user_features", "last_seen_ms", "age"]
    file = csv(tmp_path, f"user_id,event_timestamp,{','.join(names)}\n007,1795667014,{','.join(map(str, range(7)))}\n")
    training_set(file, tmp_path / "out.csv", tmp_path, "redis://127.0.0.1:1/0")
    found = pd.read_csv(tmp_path / "out.csv", dtype={"user_id": str})
    assert (found["user_id"][0], found[names].iloc[0].tolist()) == ("007", list(range(7)))
    file = csv(tmp_path, "user_id,event_timestamp,user_features__age\n007,1795667014,1\n")
    with pytest.raises(BadSettings, match="user_features__age"):
        training_set(file, tmp_path / "out.csv", tmp_path, "redis://127.0.0.1:1/0")
