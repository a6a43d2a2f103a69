"""Labels of recommendations: what counts as engagement, when, and what a restart leaves."""

from __future__ import annotations

from typing import Any

import pytest

from processors.recommendation import attribution_step
from processors.recommendation.attribution import MAX_EVENTS_A_USER, Attribution, label_of
from processors.recommendation.attribution_step import CHECK_EVERY_MS, FORGET_EVERY_MS, GRACE_MS, AttributionStep
from schemas import avro
from schemas.codec import Encoder, read_any
from schemas.encoding import Constant
from schemas.generated import UserEvent
from schemas.topics import LABELS, RECOMMENDATION_RESULTS, USER_EVENTS_VALID
from streams import headers as h
from streams.broker import Commit
from streams.clock import ManualClock
from streams.loop.outcome import Emit, Reject
from streams.memory.cluster import MemoryBroker, Transaction
from streams.rows import OutRecords
from streams.schema_registry import MemoryRegistry
from tests.support.attribution_in_memory import MemoryAttributionTopics
from tests.support.rows import rows_at

WINDOW_MS = 60_000
PLACE = (RECOMMENDATION_RESULTS.name, 0)


class Loop:
    def __init__(self) -> None:
        self.clock, self.ids = ManualClock(), MemoryRegistry()
        for topic in (RECOMMENDATION_RESULTS, USER_EVENTS_VALID, LABELS):
            assert topic.record is not None
            self.ids.register(topic.subject, avro.schema(topic.record.RECORD))
        self.broker = MemoryBroker(self.clock)
        self.broker.create(USER_EVENTS_VALID.name, 1)
        self.topics = MemoryAttributionTopics(self.broker)
        self.step = self.started()

    def started(self) -> AttributionStep:
        made = AttributionStep(self.ids, "w", self.clock, self.topics, WINDOW_MS)
        made.restore({PLACE: Commit(0)})
        return made

    def answer(self, user: str, *items: str, at: int = 0, status: str = "ok", at_ms: int | None = None) -> None:
        fields: dict[str, Any] = {
            "request_id": f"r-{at}",
            "status": status,
            "origin_topic": "t",
            "origin_partition": 0,
            "origin_offset": at,
            "user_id": user,
            "items": [{"item_id": item, "title": item, "score": 1.0} for item in items],
        }
        encoder = Encoder.of(RECOMMENDATION_RESULTS, self.ids)
        value = encoder.encode({name: Constant(content) for name, content in fields.items()}, 1)
        self.step.submit(rows_at(PLACE, value, at, keys=[user.encode()], timestamps_ms=[at_ms or self.clock.now_ms()]))

    def event(
        self,
        user: str,
        item: str | None,
        kind: str = "view",
        transaction: Transaction | None = None,
        arrived_ms: bytes | None = None,
    ) -> None:
        event = UserEvent(event_id="e", user_id=user, kind=kind, item_id=item, event_ms=self.clock.now_ms())
        value = Encoder.of(USER_EVENTS_VALID, self.ids).encode_one(event)
        headers = [] if arrived_ms is None else [(h.ARRIVED_MS, arrived_ms)]
        self.broker.append(OutRecords(USER_EVENTS_VALID.name, [user.encode()], [value], [headers], [0]), transaction)

    def labels(self) -> list[dict[str, Any]]:
        outcomes = self.step.completed(0) + self.step.completed(0)  # the end is marked by one call, and read up to by the next
        assert all(isinstance(outcome, Emit) for outcome in outcomes)
        return [read_any(value, self.ids) for outcome in outcomes for out in outcome.records for value in out.values]  # type: ignore[union-attr]

    def wait(self, ms: int) -> None:
        self.clock.sleep(ms / 1000)


def test_what_a_user_does_with_shown_items_within_the_window_is_the_label() -> None:
    loop = Loop()
    loop.event("u", "a")  # before the answer
    loop.wait(1_000)
    loop.answer("u", "a", "b", "c")
    loop.wait(5_000)
    loop.event("u", "b")
    loop.event("u", "b", "purchase")
    loop.event("u", "z")  # was not shown
    loop.event("v", "c")  # another user
    loop.event("u", None, "search")
    assert loop.labels() == [], "the window has not ended"
    loop.wait(WINDOW_MS)
    loop.event("u", "c")  # too late
    loop.wait(GRACE_MS)
    (label,) = loop.labels()
    assert (label["request_id"], label["source"], label["task"]) == ("r-0", "user events", "recommendation")
    assert label["truth"] == {"engaged": True}
    assert label["parts"] == {"b": {"engaged": True, "purchased": True}}
    assert label["note"] == "b: view, purchase"


def test_an_answer_that_nobody_followed_is_labelled_too() -> None:
    loop = Loop()
    loop.answer("u", "a")
    loop.wait(WINDOW_MS + GRACE_MS)
    (label,) = loop.labels()
    assert (label["truth"], label["parts"], label["note"]) == ({"engaged": False}, {}, None)


def test_answers_without_items_get_no_label_and_are_done_at_once() -> None:
    loop = Loop()
    loop.answer("u")
    loop.answer("", "a", at=1)
    loop.answer("u", "a", at=2, status="failed")
    outcomes = loop.step.completed(0)
    assert [(type(outcome), len(outcome.rows)) for outcome in outcomes] == [(Emit, 1)] * 3
    loop.step.submit(rows_at(PLACE, [b"junk"], 3))
    (outcome,) = loop.step.completed(0)
    assert isinstance(outcome, Reject)


def test_a_restart_gives_the_labels_that_were_not_written() -> None:
    loop = Loop()
    loop.answer("u", "a")
    loop.event("u", "a")
    loop.wait(10_000)
    loop.labels()
    answered_ms = loop.clock.now_ms() - 10_000
    loop.step = loop.started()
    loop.wait(WINDOW_MS)
    loop.clock._now_ms = answered_ms  # the same record is read again, with its own time
    loop.answer("u", "a")
    loop.wait(WINDOW_MS + GRACE_MS)
    (label,) = loop.labels()
    assert label["truth"] == {"engaged": True}


def test_new_partitions_take_nothing_from_those_that_stay() -> None:
    loop = Loop()
    loop.answer("u", "a")
    loop.event("u", "a")
    loop.labels()
    loop.topics.oldest = None
    loop.wait(1_000)
    loop.step.restore({(RECOMMENDATION_RESULTS.name, 1): Commit(0)})
    loop.wait(WINDOW_MS + GRACE_MS)
    (label,) = loop.labels()
    assert label["truth"] == {"engaged": True}


def test_no_answer_is_labelled_before_all_events_of_its_window_are_read() -> None:
    loop = Loop()
    answered_ms = loop.clock.now_ms()
    loop.event("u", "a")
    loop.wait(10 * WINDOW_MS)
    loop.topics.empty_polls = 5  # the client has fetched nothing yet: the events are there all the same
    loop.step = loop.started()
    loop.answer("u", "a", at_ms=answered_ms)
    assert [loop.labels() for _ in range(2)] == [[], []]
    loop.wait(CHECK_EVERY_MS)
    (label,) = loop.labels() + loop.labels()
    assert label["truth"] == {"engaged": True}


def test_an_open_transaction_of_events_holds_labels_back() -> None:
    loop = Loop()
    loop.answer("u", "a")
    loop.wait(WINDOW_MS - 1_000)
    open_ = loop.broker.begin("validate", loop.broker.fence("validate"))
    loop.event("u", "a", transaction=open_)
    loop.wait(1_000 + GRACE_MS)
    assert loop.labels() == []
    loop.broker.commit_records(open_)
    (label,) = loop.labels()
    assert label["truth"] == {"engaged": True}


def test_an_event_counts_when_it_came_however_late_it_was_validated() -> None:
    loop = Loop()
    answered_ms = loop.clock.now_ms()
    loop.answer("u", "a", "b", "c")
    loop.topics.unvalidated = answered_ms + 100
    loop.wait(3 * WINDOW_MS)
    assert loop.labels() == [] and loop.step.keeps(PLACE), "it waits for the loop that validates, and does not stand still"
    loop.event("u", "a", arrived_ms=str(answered_ms + 100).encode())
    loop.event("u", "b", arrived_ms=str(answered_ms + WINDOW_MS).encode())
    loop.event("u", "c", arrived_ms="٣".encode())
    loop.topics.unvalidated = None
    loop.wait(CHECK_EVERY_MS)
    (label,) = loop.labels()
    assert label["parts"].keys() == {"a"}


def test_events_are_kept_while_answers_before_them_are_unread() -> None:
    loop = Loop()
    answered_ms = loop.topics.oldest = loop.clock.now_ms()
    loop.event("u", "a")
    for _ in range(4):  # the answer stands far back in a backlog
        loop.wait(FORGET_EVERY_MS)
        assert loop.labels() == []
    assert loop.topics.asked == 5
    loop.answer("u", "a", at_ms=answered_ms)
    (label,) = loop.labels()
    assert label["truth"] == {"engaged": True}
    loop.topics.oldest, loop.topics.down = None, True
    loop.wait(10 * WINDOW_MS)
    loop.labels()
    assert loop.step._attribution._actions, "the broker does not say what is unread"
    loop.topics.down = False
    loop.wait(FORGET_EVERY_MS)
    loop.labels()
    assert loop.step._attribution._actions == {}


def test_what_is_not_due_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    class Counted(attribution_step._Waiting):
        def __getattribute__(self, name: str) -> Any:
            if name == "due_ms":
                looks.append(name)
            return super().__getattribute__(name)

    monkeypatch.setattr(attribution_step, "_Waiting", Counted)
    loop = Loop()
    for number in range(300):
        loop.answer("u", "a", at=number)
        loop.wait(100)
    looks.clear()
    assert loop.labels() == [] and len(looks) < 10
    loop.wait(WINDOW_MS + GRACE_MS - 30_000 + 450)
    assert [label["request_id"] for label in loop.labels()] == [f"r-{number}" for number in range(5)]
    assert len(looks) < 200, "of each due one, about twice the depth of the heap"


def test_a_partition_whose_answers_wait_does_not_stand_still() -> None:
    loop = Loop()
    assert not loop.step.keeps(PLACE)
    loop.answer("u", "a")
    assert loop.step.keeps(PLACE) and not loop.step.keeps(("other", 0)) and not loop.step.busy()
    loop.wait(10 * WINDOW_MS)
    assert not loop.step.keeps(PLACE), "it waits in vain: that does count"


def test_memory_is_bounded_by_the_window() -> None:
    made = Attribution(WINDOW_MS)
    for at in range(2 * MAX_EVENTS_A_USER):
        made.add({"user_id": "u", "item_id": f"i-{at}", "kind": "view"}, at)
    made.add({"user_id": "v", "item_id": "i", "kind": "cart"}, 10**6)
    made.add({"user_id": "w", "item_id": "i", "kind": "rating"}, 10**6)
    assert {user: len(actions) for user, actions in made._actions.items()} == {"u": MAX_EVENTS_A_USER, "v": 1}
    made.forget_before(1_990)
    assert {user: len(actions) for user, actions in made._actions.items()} == {"u": 10, "v": 1}
    made.forget_before(10**7)
    assert made._actions == {}


def test_a_long_list_of_events_is_cut_in_the_note() -> None:
    label = label_of({"request_id": "r"}, {f"item-{i}": ["view"] for i in range(500)}, 7)
    assert len(label["note"]) == 1_000 and len(label["parts"]) == 500
