"""The people of the story of recommendation: what they want follows taste and fashion, and is taken once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from feature_jobs.traffic.generator import World
from infra.demo import shoppers
from infra.demo.shoppers import PEOPLE, WANTS, Shoppers
from processors.features.validate import impossible
from schemas import avro
from schemas.codec import read_any
from schemas.generated import UserEvent
from schemas.topics import ITEMS, USER_EVENTS, USER_PROFILES
from streams.clock import SystemClock
from streams.kafka.config import KafkaAddress
from streams.memory.cluster import MemoryBroker
from streams.memory.endpoints import MemorySink
from streams.schema_registry import MemoryRegistry

NOWHERE = KafkaAddress(bootstrap="127.0.0.1:1")


class Shop:
    """People who have opened their shop on a broker in memory."""

    def __init__(self) -> None:
        self.broker, self.ids, self.people = MemoryBroker(SystemClock()), MemoryRegistry(), Shoppers()
        for topic in (ITEMS, USER_PROFILES, USER_EVENTS):
            self.broker.create(topic.name, 1)
            self.ids.register(topic.subject, avro.schema(topic.record_name))
        self.people.open(NOWHERE, self.ids, MemorySink(self.broker, "", None))

    def events(self) -> list[UserEvent]:
        entries = [entry for _, _, entry in self.broker.records(USER_EVENTS.name)]
        found = [UserEvent.from_dict(read_any(entry.value, self.ids)) for entry in entries]
        now_ms = SystemClock().now_ms()
        assert not [why for one, entry in zip(found, entries, strict=True) if (why := impossible(one, entry.key, now_ms))]
        return found


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr(shoppers, "lags", lambda address, groups, places: {group: dict.fromkeys(places, 0) for group in groups})
    return Shop()


def result(user: str, *items: str) -> dict[str, Any]:
    return {"user_id": user, "items": [{"item_id": item} for item in items]}


def test_the_shop_has_people_things_and_a_past_before_anybody_asks(shop: Shop) -> None:
    assert len(shop.broker.records(USER_PROFILES.name)) == PEOPLE
    assert len(shop.broker.records(ITEMS.name)) == len(World().catalogue(0))
    assert len(shop.events()) > 4_000


def test_everybody_takes_what_was_wanted_and_wants_no_more_what_was_bought(shop: Shop) -> None:
    past, asked = shop.events(), [shop.people.next(number) for number in range(2 * PEOPLE)]
    assert len({fields["user_id"] for fields, _ in asked[:PEOPLE]}) == PEOPLE, "nobody asks again while others have not"
    assert all(len(truth) == WANTS for _, truth in asked)
    had = {(event.user_id, event.item_id) for event in past if event.kind == "purchase"}
    assert had and not [item for fields, truth in asked for item in truth if (fields["user_id"], item) in had]
    for fields, truth in asked[:PEOPLE]:
        shop.people.answered(result(fields["user_id"]), truth)
    made = shop.events()[len(past) :]
    looked, bought = ({(one.user_id, one.item_id) for one in made if one.kind == kind} for kind in ("view", "purchase"))
    assert looked == {(fields["user_id"], item) for fields, truth in asked[:PEOPLE] for item in truth}
    assert bought and bought < looked
    again = [shop.people.next(number) for number in range(10 * PEOPLE)]
    wanted = {(fields["user_id"], item) for fields, truth in again for item in truth}
    assert not wanted & bought and wanted & looked


def test_an_answer_is_right_if_something_wanted_is_in_it(shop: Shop) -> None:
    truth = {"i-1": True, "i-2": True}
    assert shop.people.right(result("u-1", "i-9", "i-2"), truth)
    assert not shop.people.right(result("u-1", "i-9"), truth)
    assert not shop.people.right(result("u-1"), truth)


def test_after_the_change_other_items_are_wanted(shop: Shop) -> None:
    def in_demand(changed: bool) -> float:
        """Mean demand of what is wanted, by the first fashion."""
        shop.people.changed = changed
        wanted = [item for number in range(PEOPLE) for item in shop.people.next(number)[1]]
        return float(np.mean([World().popularity()[int(item[2:])] for item in wanted]))

    assert in_demand(changed=False) > 2 * in_demand(changed=True)
