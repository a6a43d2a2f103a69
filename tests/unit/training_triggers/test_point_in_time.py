"""What a training set knows of a user at an event: what the feature store held then, and nothing that came later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_jobs.offline import lake
from feature_jobs.offline.archive import archive as archive_step
from inference_workers.networks.recommendation import item_tokens
from schemas import avro
from schemas.codec import Encoder
from schemas.durations import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.features import USER
from schemas.generated import UserEvent
from schemas.topics import USER_EVENTS_VALID
from streams.broker import Commit
from streams.clock import SystemClock
from streams.schema_registry import MemoryRegistry
from tests.support.rows import rows_at
from tests.support.toy_shop import FAST
from training_triggers.trainers.recommending import (
    event_readers,
    neighbour_counts,
    point_in_time,
    ranker_training,
    tower_training,
)
from training_triggers.trainers.recommending.interactions import Interactions
from training_triggers.trainers.recommending.train_recommender import feature_columns

PLACE = (USER_EVENTS_VALID.name, 0)
T0 = 1_795_000_000_000 // DAY_MS * DAY_MS + 10 * HOUR_MS
# user, item, when it happened, and when it arrived: the second event of ann came an hour late
EVENTS = (
    ("ann", "i-1", 0, 0),
    ("ann", "i-3", 20 * MINUTE_MS, 20 * MINUTE_MS),
    ("ben", "i-1", 25 * MINUTE_MS, 25 * MINUTE_MS),
    ("ann", "i-2", 10 * MINUTE_MS, 70 * MINUTE_MS),
    ("ann", "i-4", 80 * MINUTE_MS, 80 * MINUTE_MS),
    ("ann", "i-5", 20 * HOUR_MS, 20 * HOUR_MS),  # the next day, which has no history
)


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, ids = tmp_path_factory.mktemp("lake"), MemoryRegistry()
    ids.register(USER_EVENTS_VALID.subject, avro.schema("user-event"))
    encoder = Encoder.of(USER_EVENTS_VALID, ids)
    archive = archive_step(folder / "events", ids, SystemClock(), age_s=3600, rows=len(EVENTS))
    archive.restore({PLACE: Commit(0)})
    for offset, (user, item, at_ms, came_ms) in enumerate(EVENTS):
        event = UserEvent(event_id=f"e-{offset}", user_id=user, kind="view", item_id=item, event_ms=T0 + at_ms)
        archive.submit(rows_at(PLACE, [encoder.encode_one(event)], offset, keys=[user.encode()], timestamps_ms=[T0 + came_ms]))
    archive.completed(0)
    return folder


@pytest.fixture(scope="module")
def data(archived: Path) -> Interactions:
    assert event_readers.read(archived).at_events is None, "without a history there are profiles alone"
    assert lake.backfill(archived, USER, T0, T0 + HOUR_MS, {}, T0 + 10 * DAY_MS) > 0
    return event_readers.read(archived)


def known(data: Interactions, name: str) -> list[float]:
    assert data.at_events is not None
    found: list[float] = data.at_events[:, data.feature_names.index(name)].tolist()
    return found


def test_an_event_knows_what_had_arrived_by_then_and_nothing_later(data: Interactions) -> None:
    assert [data.items.ids[row] for row in data.item] == ["i-1", "i-2", "i-3", "i-4", "i-5", "i-1"]
    viewed = known(data, "viewed_24h")
    # At the second one's time, only the first had arrived; at the third's, the second was still on its way.
    assert viewed[:4] == [1, 1, 2, 4]
    assert viewed[5] == 1, "and nothing of another user"
    assert np.isnan(viewed[4]), "that day has no history: unknown, not what was known days before"


def test_a_place_of_a_history_has_the_features_of_its_event(data: Interactions) -> None:
    batch = tower_training._windows(data, np.array([0, 1]), FAST.towers, np.random.default_rng(0))
    columns = feature_columns(data)
    features = tower_training._user_features(data, columns)
    given = features.at(batch).numpy()
    for row in range(2):
        for place in range(batch.at.shape[1]):
            event, column = int(batch.events[row, place]), int(batch.at[row, place])
            assert (event == -1) == (column == 0)
            profile = data.profiles[int(batch.user[row])]
            if event >= 0:
                assert data.item[event] == batch.rows[row, column] and data.user[event] == batch.user[row]
            wanted = columns.encode([profile if event < 0 else data.known_at(event)])[0]
            np.testing.assert_array_equal(given[row, place], wanted)


def test_what_becomes_known_later_changes_no_earlier_place(data: Interactions) -> None:
    assert data.at_events is not None
    later = data.at_events.copy()
    later[3] += 100  # the fourth event of ann
    other = replace(data, at_events=later)
    columns = feature_columns(data)
    batch = tower_training._windows(data, np.array([0]), FAST.towers, np.random.default_rng(0))
    one, two = (tower_training._user_features(some, columns).at(batch).numpy()[0] for some in (data, other))
    changed = (one != two).any(axis=1)
    assert changed.tolist() == (batch.events[0] == 3).tolist() and changed.any()
    before, after = data.take(np.arange(6) != 3), data.take(np.arange(6) == 3)
    assert known(before, "viewed_24h")[:3] == [1, 1, 2] and known(after, "viewed_24h") == [4]


def test_a_list_of_the_ranker_has_what_was_known_at_the_last_event_before_it(data: Interactions) -> None:
    columns = feature_columns(data)
    assert {"viewed_24h", "distinct_items_24h"} < columns.numbers.keys() and set(point_in_time.NAMES) >= columns.numbers.keys()
    tokens = item_tokens.numbered([[]] * len(data.items.ids), {})
    towers = tower_training.Towers(len(data.items.ids), tokens, columns.width, FAST.towers)
    vectors = np.eye(len(data.items.ids), FAST.towers.width, dtype=np.float32)
    first = data.take(np.isin(np.arange(6), (0, 1, 2, 5)))
    made = ranker_training.lists(
        towers,
        vectors,
        neighbour_counts.count(first, 4),
        first,
        data.take(np.arange(6) == 3),
        columns,
        20,
        replace(FAST.ranker, candidates=3, unknown=0.0),
        np.random.default_rng(0),
    )
    np.testing.assert_array_equal(made.features[0], columns.encode([data.known_at(2)])[0])
