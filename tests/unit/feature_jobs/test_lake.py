"""The offline store as of arrival: late events, events ahead of their clock, replays, entities that rest; beside what a sink serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_jobs.offline.archive import EVENTS, SCHEMA
from feature_jobs.offline.lake import backfill, covered, entities_of, tiles, values_at
from feature_jobs.offline.training_set import training_set
from schemas.durations import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.features import ITEM, TILE_MS, USER
from schemas.generated import UserEvent
from streams.archived.manifests import MANIFESTS, link, write_parquet
from tests.support.brute_features import differences, tiles_of, user_values
from tests.unit.feature_jobs.test_feature_sink import SinkUnderTest

T0 = 1_795_000_200_000
BUY = UserEvent(event_id="e", user_id="u", kind="purchase", item_id="i", session_id="s", amount_cents=500, event_ms=T0)
NOWHERE = "redis://127.0.0.1:1/0"
Come = tuple[UserEvent, int, int]  # an event, when it was appended, and how far its clock was behind


def archive(lake: Path, come: Sequence[Come]) -> None:
    folder = lake / EVENTS
    (folder / MANIFESTS).mkdir(parents=True, exist_ok=True)
    rows = [
        {**asdict(event), "appended_ms": at_ms, "replay_offset_ms": behind_ms, "partition": 0, "offset": offset}
        for offset, (event, at_ms, behind_ms) in enumerate(come)
    ]
    file = folder / "dt=2026-11-18" / "p0.parquet"
    write_parquet(file, pa.Table.from_pylist([{name: row[name] for name in SCHEMA.names} for row in rows], SCHEMA))
    link(
        folder,
        {"partition": 0, "first": 0, "end": len(rows), "rows": len(rows), "files": [str(file.relative_to(folder))]},
        "p0-0.json",
    )


def bought(lake: Path, at_ms: int) -> int:
    values = values_at(lake, USER, at_ms, {}).get("u")
    return 0 if values is None else int(values["total_purchases"])


def test_an_event_counts_from_its_arrival_on(tmp_path: Path) -> None:
    late = replace(BUY, event_id="late", event_ms=T0 - HOUR_MS)
    ahead = replace(BUY, event_id="ahead", event_ms=T0 + 50 * MINUTE_MS)
    archive(tmp_path, [(BUY, T0 + 5, 0), (late, T0 + 3 * DAY_MS, 0), (ahead, T0 + 7, 0)])
    assert [bought(tmp_path, at_ms) for at_ms in (T0 + 4, T0 + 5, T0 + 7, T0 + DAY_MS, T0 + 3 * DAY_MS)] == [0, 1, 2, 2, 3]
    values = values_at(tmp_path, USER, T0 + 7, {})["u"]
    assert (values["last_seen_ms"], values["bought_5m"]) == (ahead.event_ms, 2), "as the sink counts it"


def test_a_replayed_event_arrives_when_its_clock_says(tmp_path: Path) -> None:
    archive(tmp_path, [(BUY, T0 + 200 * DAY_MS, 200 * DAY_MS), (replace(BUY, event_id="2"), T0 + 200 * DAY_MS, 0)])
    assert [bought(tmp_path, at_ms) for at_ms in (T0 - 1, T0, T0 + 199 * DAY_MS, T0 + 200 * DAY_MS)] == [0, 1, 1, 2]


def test_versions_of_a_tile_hold_all_that_came_before(tmp_path: Path) -> None:
    come = [(replace(BUY, event_id=f"{n}", event_ms=T0 + n), T0 + n * TILE_MS, 0) for n in range(5)]
    archive(tmp_path, come)
    ((_, held),) = tiles(tmp_path, USER, T0 + DAY_MS)
    assert [(tile.sums[0], tile.arrived_ms) for tile in held] == [(n + 1, T0 + n * TILE_MS) for n in range(5)]
    assert (
        differences(values_at(tmp_path, USER, T0 + DAY_MS, {})["u"], user_values([event for event, _, _ in come], T0 + DAY_MS))
        == {}
    )


def test_what_could_not_be_is_left_out_and_entities_are_chosen(tmp_path: Path) -> None:
    others = [(replace(BUY, user_id=name, event_id=name), T0, 0) for name in ("a", "b'; --", "c")]
    archive(tmp_path, [*others, (replace(BUY, event_ms=2**63 - 1), T0, 0), (replace(BUY, event_ms=-5), T0, 0)])
    assert entities_of(tmp_path, USER) == ["a", "b'; --", "c"]
    assert entities_of(tmp_path, ITEM) == ["i"]
    assert [name for name, _ in tiles(tmp_path, USER, 2**62, ["b'; --", "nobody"])] == ["b'; --"]
    assert dict(tiles(tmp_path, USER, 2**62, [])) == {}


def test_a_backfill_of_today_writes_nothing_of_the_future(tmp_path: Path) -> None:
    archive(tmp_path, [(BUY, T0, 0)])
    now_ms = T0 + HOUR_MS // 2
    backfill(tmp_path, USER, T0, T0 + 9 * DAY_MS, {}, now_ms)
    (file,) = (tmp_path / USER.name).glob("*.parquet")
    stamps = pq.read_table(file)["event_timestamp"].cast(pa.int64()).to_pylist()
    assert stamps == [T0 * 1000, (T0 + TILE_MS) * 1000]
    assert covered(tmp_path, USER) == {T0 // DAY_MS: now_ms}


@pytest.mark.parametrize("first_day", [0, 3])
def test_training_and_serving_agree_however_long_a_user_rests(tmp_path: Path, first_day: int) -> None:
    """Minutes, and 2.5 to 9 days after the last event: the sink's values at a time beside the training row of a label of that time."""
    world = SinkUnderTest().own()
    world.profile("u", 33)
    start_ms = world.clock.now_ms() - world.clock.now_ms() % TILE_MS
    events = [
        replace(BUY, event_id=f"{n}", event_ms=start_ms + n, kind=kind, amount_cents=amount)
        for n, (kind, amount) in enumerate([("view", None), ("purchase", 500), ("purchase", 700)], 1)
    ]
    (record,) = tiles_of(events, by_visit=True)
    world.clock.sleep(1)
    at_ms = world.clock.now_ms()
    world.tile(record.pop("n"), record.pop("tile_start_ms"), **record)
    archive(tmp_path, [(event, at_ms, 0) for event in events])
    names, served, asked = [f.name for f in USER.features], [], []
    for days in (0.001, 0.5, 1.0, 2.5, 4, 6, 9):
        while world.clock.now_ms() < at_ms + days * DAY_MS:
            world.clock.sleep(min(3_600, (at_ms + days * DAY_MS - world.clock.now_ms()) / 1000))
            world.sink.tick()
        if days >= first_day:
            served.append(world.read(*names))
            asked.append(world.clock.now_ms())
    assert {one.pop("state") for one in served} == {"FRESH"}
    profile = {"u": {"age": 33, "country": "FR"}}
    backfill(tmp_path, USER, at_ms + first_day * DAY_MS, at_ms + 10 * DAY_MS, profile, world.clock.now_ms())
    pd.DataFrame({"user_id": "u", "event_timestamp": pd.to_datetime(asked, unit="ms", utc=True)}).to_parquet(
        tmp_path / "labels.parquet"
    )
    found = training_set(tmp_path / "labels.parquet", tmp_path / "set.parquet", tmp_path, NOWHERE)
    assert found == (len(asked), len(asked), 0)
    frame = pd.read_parquet(tmp_path / "set.parquet")
    for row, online in enumerate(served):
        offline = {name: frame[f"user_features__{name}"][row] for name in names}
        assert differences(offline, online) == {}, (row, differences(offline, online))


def test_labels_outside_the_days_that_were_backfilled_have_no_features_and_are_counted(tmp_path: Path) -> None:
    archive(tmp_path, [(BUY, T0, 0)])
    backfill(tmp_path, USER, T0 + DAY_MS, T0 + 3 * DAY_MS, {}, T0 + 2 * DAY_MS + HOUR_MS)
    times = [T0, T0 + DAY_MS, T0 + 2 * DAY_MS + HOUR_MS, T0 + 2 * DAY_MS + HOUR_MS + 1, T0 + 4 * DAY_MS]
    pd.DataFrame({"user_id": "u", "event_timestamp": pd.to_datetime(times, unit="ms", utc=True)}).to_parquet(
        tmp_path / "labels.parquet"
    )
    assert training_set(tmp_path / "labels.parquet", tmp_path / "set.csv", tmp_path, NOWHERE) == (5, 2, 3)
    assert pd.read_csv(tmp_path / "set.csv")["user_features__total_purchases"].isna().tolist() == [True, False, False, True, True]
