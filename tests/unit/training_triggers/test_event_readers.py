"""Events that recommendation learns from, out of an archive that the loop `archive` wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from feature_jobs.offline.archive import archive as archive_step
from inference_workers.networks.recommendation.histories import KINDS
from schemas import avro
from schemas.codec import Encoder
from schemas.errors import BadSettings
from schemas.generated import UserEvent
from schemas.topics import USER_EVENTS_VALID
from streams.broker import Commit
from streams.clock import SystemClock
from streams.schema_registry import MemoryRegistry
from tests.support.rows import rows_at
from training_triggers.trainers.recommending import event_readers

PLACE = (USER_EVENTS_VALID.name, 0)
T0 = 1_795_000_000_000
EVENTS = (
    ("ann", "i-2", "view", 5_000),
    ("ann", "i-1", "purchase", 2_000),
    ("ben", "i-1", "view", 3_000),
    ("ben", None, "search", 4_000),
    ("ben", "i-9", "shrug", 6_000),
)


def archived(folder: Path, events: tuple[tuple[str, str | None, str, int], ...] = EVENTS) -> Path:
    ids = MemoryRegistry()
    ids.register(USER_EVENTS_VALID.subject, avro.schema("user-event"))
    encoder = Encoder.of(USER_EVENTS_VALID, ids)
    archive = archive_step(folder / "events", ids, SystemClock(), age_s=3600, rows=len(events))
    archive.restore({PLACE: Commit(0)})
    for offset, (user, item, kind, at_ms) in enumerate(events):
        event = UserEvent(event_id=f"e-{offset}", user_id=user, kind=kind, item_id=item, event_ms=T0 + at_ms)
        archive.submit(rows_at(PLACE, [encoder.encode_one(event)], offset, keys=[user.encode()], timestamps_ms=[T0 + at_ms]))
    assert len(archive.completed(0)) > 0
    return folder


def test_events_with_an_item_are_read_in_the_order_of_each_user(tmp_path: Path) -> None:
    found = event_readers.read(archived(tmp_path))
    assert found.users == ("ann", "ben") and found.items.ids == ["i-1", "i-2", "i-9"]
    kinds = [KINDS[kind] for kind in found.kind]
    rows = zip(found.user.tolist(), found.item.tolist(), kinds, (found.time_s * 1000 - T0).round().tolist(), strict=True)
    assert list(rows) == [
        (0, 0, "purchase", 2_000),
        (0, 1, "view", 5_000),
        (1, 0, "view", 3_000),
        (1, 2, "view", 6_000),  # a kind that nobody knows counts as a view
    ]
    assert found.items.titles == ["", "", ""] and found.profiles == [{}, {}]


def test_files_beside_the_archive_give_titles_attributes_and_profiles(tmp_path: Path) -> None:
    folder = archived(tmp_path)
    item = {"item_id": "i-1", "title": "Enamel mug", "category": "kitchen", "price_cents": 999}
    (folder / "items.jsonl").write_text(
        json.dumps(item) + "\n" + json.dumps({**item, "item_id": "i-5", "price_cents": None}) + "\n"
    )
    (folder / "profiles.jsonl").write_text('{"user_id": "ann", "age": 41, "country": null}\n{"user_id": "zoe", "age": 7}\n')
    found = event_readers.read(folder)
    assert found.items.ids == ["i-1", "i-2", "i-9", "i-5"] and found.items.titles[0] == "Enamel mug"
    assert found.items.attributes[0] == {"category": "kitchen", "price_cents": 999.0}
    assert found.items.attributes[3] == {"category": "kitchen"} and found.items.attributes[1] == {"category": ""}
    assert found.profiles == [{"age": 41}, {}] and "zoe" not in found.users
    (folder / "items.jsonl").write_text(json.dumps(item) + "\n{broken\n")
    with pytest.raises(BadSettings, match=r"items\.jsonl, line 2"):
        event_readers.read(folder)


@pytest.mark.parametrize("broken", ['{"title": "T"}', "[]", "3", '{"item_id": 7, "title": "T"}'])
def test_a_line_that_is_no_record_is_said_with_its_place(tmp_path: Path, broken: str) -> None:
    (archived(tmp_path) / "items.jsonl").write_text(f"\n{broken}\n")
    with pytest.raises(BadSettings, match=r"items\.jsonl, line 2"):
        event_readers.read(tmp_path)


def test_an_archive_without_events_and_a_folder_without_an_archive_are_errors(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="neither MovieLens"):
        event_readers.read(tmp_path)
    (tmp_path / "events").mkdir()
    with pytest.raises(BadSettings, match="no events are archived"):
        event_readers.read(tmp_path)
    with pytest.raises(BadSettings, match="no event of a known user"):
        event_readers.of_shop("the log", {"i-5": {"title": ""}}, {}, [("ann", "i-1", "view", 1.0)])
