"""The task `recommendation` on a recommender without weights: what is filtered, said and logged, and items that come and go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.recommending import served_requests
from inference_workers.recommending.asked import Asked
from inference_workers.recommending.recommender import UserHistory
from inference_workers.recommending.settings import RecommendationSettings
from inference_workers.replay import replay
from inference_workers.served.followed_items import POLL_EVERY_S, FollowedItems
from inference_workers.task import ItemChange, Version
from inference_workers.tasks.recommendation import MODEL, Recommendation, RecommenderBackend
from inference_workers.worker import TaskProcessor
from processors.features.enrich import Enrich
from processors.features.feature_blob import EntityValues, pack
from processors.features.online_store import MemoryStore
from processors.features.recent_events import Event, to_text
from processors.features.recorded_features import RecordedFeatures
from schemas import avro
from schemas.codec import Encoder, read_any
from schemas.errors import RetryLater
from schemas.features import RECENT, USER
from schemas.generated import Item, RecommendationRequest
from schemas.topics import ITEMS, PREDICTION_LOG, RECOMMENDATION_REQUESTS, RECOMMENDATION_RESULTS
from streams import newest_records
from streams.claim_checks import ClaimChecks
from streams.clock import ManualClock
from streams.loop.outcome import Emit, Reject
from streams.memory.cluster import MemoryBroker
from streams.memory.endpoints import MemoryBroadcast
from streams.metrics import Metrics
from streams.rows import OutRecords, Rows
from streams.schema_registry import MemoryRegistry
from tests.support.fixed_models import FixedModels
from tests.support.recommending import PlainRecommender
from tests.support.rows import rows_at

ITEMS_OF_SHOP = [(f"{category[0]}-{i}", category) for i in range(10) for category in ("kitchen", "garden", "books")]
PLAIN = RecommendationSettings(diversity=0.0, explore_share=0.0)


class Store(MemoryStore):
    down = False

    def read_views(self, wanted: Any) -> list[list[bytes | None]]:
        if self.down:
            raise RetryLater("down")
        return super().read_views(wanted)


class Shop:
    def __init__(
        self, items: Sequence[tuple[str, str]] = ITEMS_OF_SHOP, settings: RecommendationSettings = PLAIN, in_topic: bool = True
    ) -> None:
        """in_topic: whether the items are in their topic, too."""
        self.clock, self.store, self.ids, self.metrics = ManualClock(), Store(), MemoryRegistry(), Metrics()
        for topic in (RECOMMENDATION_REQUESTS, RECOMMENDATION_RESULTS, PREDICTION_LOG, ITEMS):
            assert topic.record is not None
            self.ids.register(topic.subject, avro.schema(topic.record.RECORD))
        self.task = Recommendation()
        self.task.__dict__["settings"] = settings
        folder = ModelFolder(Path(), MODEL, "7", "d", {"network": "plain"}, {})
        self.recommender = PlainRecommender(items)
        self.version = Version(folder, RecommenderBackend(self.recommender))
        self.broker = MemoryBroker(self.clock)
        self.broker.create(ITEMS.name, 2)
        for item_id, category in items if in_topic else ():
            self.write(item_id, Item(item_id=item_id, title=f"Title of {item_id}", category=category, updated_ms=1))
        self.items = FollowedItems(
            MemoryBroadcast(self.broker, ITEMS.name), self.ids, self.clock, self.metrics, self.task.take_items
        )
        self.step = TaskProcessor(
            self.task,
            FixedModels({MODEL: self.version}),
            MediaReader(ClaimChecks(())),
            Enrich(self.task.needs, self.store, self.clock, self.metrics),
            self.ids,
            self.clock,
            "w-0",
            self.metrics,
            self.items,
        )
        self._offset = 0

    def saw(self, user: str, *events: Event) -> None:
        self._offset += 1
        values = EntityValues((self._offset, 1), self.clock.now_ms(), None, events[-1][0], {"events": to_text(events)})
        assert self.store.write(RECENT, {user: pack(RECENT, values)}) == []

    def known(self, user: str, **values: Any) -> None:
        blank = {feature.name: feature.default for feature in USER.features}
        blob = pack(USER, EntityValues((1, 1), self.clock.now_ms(), None, self.clock.now_ms() - 3_000, blank | values))
        self.store.write(USER, {user: blob})

    def rows(self, *requests: RecommendationRequest) -> Rows:
        encoder = Encoder.of(RECOMMENDATION_REQUESTS, self.ids)
        return rows_at((RECOMMENDATION_REQUESTS.name, 0), [encoder.encode_one(request) for request in requests])

    def records(self, rows: Rows, topic: str) -> list[dict[str, Any]]:
        outcomes = self.step.process(rows)
        return [
            read_any(value, self.ids)
            for outcome in outcomes
            if isinstance(outcome, Emit)
            for out in outcome.records
            if out.topic == topic
            for value in out.values
        ]

    def ask(self, user: str = "u", limit: int = 5, **fields: Any) -> dict[str, Any]:
        request = RecommendationRequest(user_id=user, limit=limit, **fields)
        (result,) = self.records(self.rows(request), RECOMMENDATION_RESULTS.name)
        return result

    def refused(self, **fields: Any) -> str:
        (outcome,) = self.step.process(self.rows(RecommendationRequest(**fields)))
        assert isinstance(outcome, Reject)
        return str(outcome.error)

    def item(self, item_id: str, record: Item | None, partition: int = 0) -> None:
        self.write(item_id, record, partition)
        self.clock.sleep(2 * POLL_EVERY_S)
        self.step.tick()

    def write(self, item_id: str, record: Item | None, partition: int = 0) -> None:
        value = None if record is None else Encoder.of(ITEMS, self.ids).encode_one(record)
        self.broker.append(OutRecords(ITEMS.name, [item_id.encode()], [value], [[]], [partition]), None)


def ids(result: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in result["items"]]


def test_what_a_user_did_seconds_ago_is_left_out_and_what_is_like_it_rises() -> None:
    shop = Shop()
    before = shop.ask()
    assert (before["basis"], ids(before)) == ("popular", ["k-0", "g-0", "b-0", "k-1", "g-1"])
    assert {item["reason"] for item in before["items"]} == {"popular with everybody"}
    now_ms = shop.clock.now_ms()
    shop.saw("u", (now_ms - 9_000, "b-3", "view"), (now_ms - 4_000, "b-4", "purchase"))
    after = shop.ask()
    assert (after["basis"], after["seen"], after["status"]) == ("history", 2, "ok")
    assert {item["category"] for item in after["items"]} == {"books"}
    assert not {"b-3", "b-4"} & set(ids(after))
    assert all(item["reason"].startswith("like Title of b-") for item in after["items"])
    assert after["index_version"] == "plain-1" and after["index_items"] == 30 and after["candidates"] == 28
    (recent, *_) = after["feature_values"]
    assert recent == {"name": "user_recent.events", "value": "2 events", "state": "fresh", "event_time_ms": now_ms - 4_000}
    assert {"name": "user_recent.events", "event_time_ms": now_ms - 4_000} in after["features"]


def test_a_user_with_a_profile_alone_is_told_from_one_of_whom_nothing_is_known() -> None:
    shop = Shop()
    shop.known("u", age=41, country="DE")
    found = shop.ask()
    assert found["basis"] == "profile"
    age = next(value for value in found["feature_values"] if value["name"] == "user_features.age")
    assert age == {"name": "user_features.age", "value": "41", "state": "fresh", "event_time_ms": shop.clock.now_ms() - 3_000}
    assert shop.ask("nobody")["basis"] == "popular"
    assert shop.ask("")["basis"] == "popular"


def test_a_user_who_has_seen_everything_gets_items_again_and_a_note_says_so() -> None:
    shop = Shop(ITEMS_OF_SHOP[:4])
    shop.saw("u", *((at, item, "view") for at, (item, _) in enumerate(ITEMS_OF_SHOP[:4], 1)))
    found = shop.ask(limit=3)
    assert len(ids(found)) == 3
    assert found["notes"] == ["the user has seen every item that could be recommended: items are shown again"]
    assert ids(shop.ask(limit=3, exclude=[item for item, _ in ITEMS_OF_SHOP[:4]])) == []


def test_a_request_may_want_categories_and_exclude_items() -> None:
    found = Shop().ask(categories=["garden"], exclude=["g-0"], limit=20)
    assert ids(found) == [f"g-{i}" for i in range(1, 10)]
    assert found["notes"] == ["only 9 of 20 items are left after filters and rules"]


def test_blocked_items_and_rules_are_settings() -> None:
    shop = Shop(settings=RecommendationSettings(diversity=0, explore_share=0, blocked_items="k-0 b-0", max_per_category=1))
    assert ids(shop.ask()) == ["g-0", "k-1", "b-1"]
    seen = RecommendationSettings(diversity=0, explore_share=0, seen_kinds="purchase")
    shop = Shop(settings=seen)
    shop.saw("u", (5, "b-3", "view"), (6, "b-4", "purchase"))
    assert "b-3" in ids(shop.ask(limit=30)) and "b-4" not in ids(shop.ask(limit=30))


def test_a_request_for_categories_does_not_widen_the_search_of_others() -> None:
    shop, searched = (
        Shop(settings=RecommendationSettings(diversity=0, explore_share=0, max_candidates=4)),
        list[tuple[int, int]](),
    )
    search = shop.recommender.candidates

    def counted(embeddings: Any, limit: int, excluded: Any) -> Any:
        searched.append((len(embeddings), limit))
        return search(embeddings, limit, excluded)

    shop.recommender.candidates = counted  # type: ignore[method-assign]
    some = RecommendationRequest(user_id="u", categories=("garden",)), RecommendationRequest(user_id="v")
    shop.records(shop.rows(some[1], some[0], some[1]), RECOMMENDATION_RESULTS.name)
    assert searched == [(2, 4), (1, 20)]


def test_places_filled_by_chance_are_named_with_their_probability() -> None:
    shop = Shop(settings=RecommendationSettings(diversity=0, explore_share=0.5))
    items = shop.ask(limit=10)["items"]
    explored = [item for item in items if item["explored"]]
    assert 0 < len(explored) < 10
    assert all(item["reason"].startswith("shown by chance") and item["propensity"] < 0.03 for item in explored)
    assert all(item["propensity"] > 0.5 for item in items if not item["explored"])


def test_a_request_that_cannot_be_answered_says_why() -> None:
    shop = Shop()
    assert shop.refused(user_id="u", limit=0) == "limit is 0; it must be from 1 to 500"
    assert shop.refused(user_id="u", limit=10_000) == "limit is 10000; it must be from 1 to 500"
    assert "1000000 characters" in shop.refused(user_id="x" * 1_000_000)
    many = [f"i-{number}" for number in range(1_001)]
    assert shop.refused(user_id="u", exclude=many) == "exclude has 1001 items; at most 1000 are allowed"
    assert shop.refused(user_id="u", categories=many) == "categories has 1001 names; at most 100 are allowed"
    assert shop.ask("u", exclude=many[:1_000])["status"] == "ok"


def test_an_empty_index_is_said() -> None:
    found = Shop([]).ask()
    assert (found["status"], ids(found), found["notes"]) == ("ok", [], ["the index has no items"])


def test_a_store_that_does_not_answer_leaves_popular_items_and_says_so() -> None:
    shop = Shop()
    shop.saw("u", (5, "b-3", "view"))
    shop.store.down = True
    found = shop.ask()
    assert (found["basis"], found["seen"]) == ("popular", 0)
    assert found["notes"] == [
        "the online store did not answer: user_features and user_recent are unknown, and so is what was seen"
    ]
    assert {value["state"] for value in found["feature_values"]} == {"unreachable"}


def test_reasons_name_the_models_inputs_if_they_are_asked_for() -> None:
    shop = Shop()
    shop.saw("u", (5, "b-3", "view"))
    assert shop.ask(explain=True)["items"][0]["reason"] == "like Title of b-3 (0.90); raised by age"


def test_items_come_change_and_vanish_by_their_topic() -> None:
    shop = Shop()
    shop.saw("u", (5, "b-3", "view"))
    shop.item("b-99", Item(item_id="b-99", title="New book", category="books", price_cents=500, updated_ms=1))
    found = shop.ask(limit=30)
    assert "b-99" in ids(found) and found["index_items"] == 31
    shop.item("b-99", Item(item_id="b-99", title="Newer book", category="books", updated_ms=2), partition=1)
    assert "Newer book" in [item["title"] for item in shop.ask(limit=30)["items"]]
    shop.item("b-99", None)
    shop.item("b-5", None)
    assert not {"b-99", "b-5"} & set(ids(shop.ask(limit=30)))


def test_an_item_that_cannot_be_taken_does_not_hold_up_others() -> None:
    shop = Shop()
    shop.item("broken", Item(item_id="broken", title="t", category="books", updated_ms=1))
    shop.broker.append(OutRecords(ITEMS.name, [b"x"], [b"junk"], [[]], [0]), None)
    shop.item("long", Item(item_id="x" * 300, title="t", category="books", updated_ms=1))
    shop.item("wide", Item(item_id="wide", title="t" * 100_000, category="books", updated_ms=1))
    found = shop.ask(limit=40, categories=["books"])
    assert "wide" in ids(found) and len(ids(found)) == 11
    assert max(len(item["title"]) for item in found["items"]) == 200


def test_a_version_that_is_loaded_gets_the_items_that_came_before_it() -> None:
    shop = Shop()
    shop.item("b-99", Item(item_id="b-99", title="New book", category="books", updated_ms=1))
    shop.item("b-1", None)
    shop.ask()
    newer = Version(shop.version.folder, RecommenderBackend(PlainRecommender(ITEMS_OF_SHOP)))
    shop.items.bring_up([newer])
    rows = newer.backend.recommender.items.rows
    assert "b-99" in rows and "b-1" not in rows
    taken: list[ItemChange] = []
    shop.items._take = lambda backend, changes, catalogue: taken.extend(changes)
    shop.items.bring_up([newer, shop.version])
    assert taken == [], "nothing is taken twice"


def test_an_older_version_does_not_bring_back_what_the_catalogue_lacks() -> None:
    shop = Shop()
    shop.ask()
    older = Version(shop.version.folder, RecommenderBackend(PlainRecommender([*ITEMS_OF_SHOP, ("gone", "books")])))
    shop.items.bring_up([older])
    rows = older.backend.recommender.items.rows
    assert "gone" not in rows and len(rows) == len(ITEMS_OF_SHOP), "its removal is no longer in the topic"
    shop.item("gone", Item(item_id="gone", title="Back again", category="books", updated_ms=1))
    shop.items.bring_up([older])
    assert "gone" in rows


def test_an_empty_topic_says_nothing_about_the_items_of_a_version_and_its_first_item_does() -> None:
    shop = Shop(in_topic=False)
    assert shop.ask(limit=30)["index_items"] == len(ITEMS_OF_SHOP)
    shop.item("b-99", Item(item_id="b-99", title="New book", category="books", updated_ms=1))
    assert ids(shop.ask(limit=30)) == ["b-99"]
    shop.item("b-99", None)
    assert ids(shop.ask(limit=30)) == []


def test_a_version_that_missed_forgotten_removals_is_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest_records, "MAX_REMOVED", 3)
    shop = Shop()
    shop.ask()
    for item_id, _ in ITEMS_OF_SHOP[:8]:
        shop.write(item_id, None)
    shop.item("b-99", Item(item_id="b-99", title="New book", category="books", updated_ms=1))
    assert shop.ask(limit=40)["index_items"] == len(ITEMS_OF_SHOP) - 8 + 1


def test_texts_for_a_replay_are_made_when_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def text(asked: Asked) -> str:
        made.append(asked.user_id)
        return "text"

    monkeypatch.setattr(served_requests, "served_text", text)
    shop = Shop()
    shop.ask()
    assert made == [], "the request path reads none"
    texts = served_requests.ServedTexts([Asked("u", 20, (), (), False, UserHistory(), frozenset(), [], [], 1)] * 3)
    assert (len(texts), list(texts), list(texts[1:])) == (3, ["text"] * 3, ["text"] * 2)


def test_the_log_holds_what_a_replay_needs_to_answer_the_same() -> None:
    shop = Shop()
    now_ms = shop.clock.now_ms()
    shop.saw("u", (now_ms - 4_000, "b-4", "purchase"))
    rows = shop.rows(RecommendationRequest(user_id="u"), RecommendationRequest(user_id="v"))
    (record,) = shop.records(rows, PREDICTION_LOG.name)
    assert (record["output_names"], record["outputs_shape"]) == (["engaged"], [2, 1])
    recorded = RecordedFeatures(shop.task.needs)
    recorded.take(record)
    shop.clock.sleep(1_000)
    shop.saw("u", (now_ms, "g-4", "purchase"))  # what the store holds by now is not what was served
    (again,) = replay(shop.task, MODEL, [shop.version], iter([rows]), shop.ids, served=recorded)
    np.testing.assert_allclose(np.concatenate(again.outputs).ravel(), np.frombuffer(record["outputs"], "<f4"))


@pytest.mark.parametrize("company", [0, 7])
def test_the_answer_does_not_depend_on_the_batch(company: int) -> None:
    shop = Shop()
    shop.saw("u", (5, "b-4", "purchase"))
    alone = shop.ask(limit=7)
    others = [RecommendationRequest(user_id=f"o-{i}", categories=("garden",) if i % 2 else ()) for i in range(company)]
    results = shop.records(shop.rows(*others, RecommendationRequest(user_id="u", limit=7)), RECOMMENDATION_RESULTS.name)
    assert ids(results[-1]) == ids(alone)
