"""The people of the story of recommendation: they ask, and take what they want, from the list or elsewhere. What they want follows
their taste, and what is in fashion; the change is another fashion. Nobody sends labels: `attribution` makes them of the events.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from feature_jobs.traffic.event_sources import Sender, fast
from feature_jobs.traffic.generator import Tastes, World
from infra.behind import lags
from schemas.catalogue import consumption
from schemas.codec import SchemaIds
from schemas.durations import DAY_MS
from schemas.errors import Stop
from schemas.generated import UserEvent
from schemas.topics import RECENT_SINK, USER_EVENTS, USER_EVENTS_VALID, VALIDATE
from streams.broker import Sink
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.kafka.config import KafkaAddress

PEOPLE = 400  # each asks again after twenty seconds: the events of one visit are the label of one answer
PAST_MS, PAST_EVENTS = 2 * DAY_MS, 8_000
SHOWN = 20
WANTS = 2  # things in a visit
BUYS = 0.2  # of the things that are looked at
PAST_LIMIT_S = 90.0


class Shoppers:
    model = "recommendation"
    about = (
        f"{PEOPLE} people of the generated shop ask for lists of {SHOWN} items, and take {WANTS} that they want, from the list or elsewhere. "
        "An answer is followed if its list has one of them; its label comes of the people's events, some ten seconds later.\n"
        "Then other items are in fashion. People keep their tastes, so their histories do not tell: the model has to learn it. "
        "Here no bad candidates follow: there are no labels to shuffle."
    )
    baseline = 600
    labelled = False
    good = "followed"
    settings: Mapping[str, str] = MappingProxyType(
        {
            "MILLRACE_ATTRIBUTION_WINDOW_S": "10",  # less than the time until they ask again, and more than a busy machine takes for an event
            "MILLRACE_ACCURACY_WINDOW_ANSWERS": "150",
            # Histories of so few people grow by the minute, which drift of signals would find. Here accuracy is to find the fashion.
            "MILLRACE_DRIFT_WINDOW_ENTRIES": "20000",
            "MILLRACE_TRAINING_MIN_LABELLED": "700",  # so many visits show what is in fashion
            # Who asks every twenty seconds has soon looked at all that he likes: what is only looked at may be shown, and wanted, again.
            "MILLRACE_SEEN_KINDS": "purchase",
        }
    )

    def __init__(self, seed: int = 5) -> None:
        self.taken, self.changed = consumption("recommendation"), False
        self._clock, self._random = SystemClock(), np.random.default_rng(seed)
        self._world = World(users=PEOPLE)
        items = self._world.catalogue(self._clock.now_ms())
        self._items = [item.item_id for item in items]
        self._prices = {item.item_id: item.price_cents for item in items}
        self._rows = {item: row for row, item in enumerate(self._items)}
        self._tastes = Tastes(self._world, items)
        self._popularity = [world.popularity() for world in (self._world, replace(self._world, fashion=1))]
        self._had = np.zeros((PEOPLE, len(items)), np.bool_)  # what somebody has bought is not wanted again
        self._order = self._random.permutation(PEOPLE)
        self._sender: Sender | None = None

    def open(self, address: KafkaAddress, ids: SchemaIds, sink: Sink) -> None:
        """People, things, and visits of the last days, until the workers know them. Raises Stop."""
        now_ms = self._clock.now_ms()
        self._sender = Sender(sink, ids, self._clock, "demo")
        self._sender.people_and_things(self._world.profiles(now_ms), self._world.catalogue(now_ms))
        past = list(self._world.events(now_ms - PAST_MS, now_ms, 1000 * PAST_EVENTS / PAST_MS))
        for event in past:
            if event.kind == "purchase" and event.item_id:
                self._buy(event.user_id, [event.item_id])
        fast(self._sender, past, self._clock, lambda sent: None)
        until_s = time.monotonic() + PAST_LIMIT_S
        for group, topic in ((VALIDATE.group, USER_EVENTS), (RECENT_SINK.group, USER_EVENTS_VALID)):
            places = [(topic.name, number) for number in range(topic.partitions)]
            while not (behind := lags(address, [group], places)[group]) or any(behind.values()):
                if time.monotonic() > until_s:
                    raise Stop(f"{group} did not read the past events within {PAST_LIMIT_S:.0f} s: `./millrace logs` says more")
                time.sleep(0.5)

    def next(self, number: int) -> tuple[dict[str, Any], dict[str, bool]]:
        person = int(self._order[number % PEOPLE])
        weights = self._popularity[self.changed] * self._tastes.of(person) * ~self._had[person]
        wanted = self._random.choice(len(weights), WANTS, replace=False, p=weights / weights.sum())
        return {"user_id": f"u-{person}", "limit": SHOWN, "surface": "demo"}, {self._items[row]: True for row in wanted}

    def right(self, result: Mapping[str, Any], truth: Mapping[str, bool]) -> bool:
        return any(item["item_id"] in truth for item in result["items"])

    def answered(self, result: Mapping[str, Any], truth: Mapping[str, bool]) -> None:
        """Whoever has an answer takes what was wanted, whether the list has it or not."""
        assert self._sender is not None
        now_ms, user = self._clock.now_ms(), result["user_id"]
        looked = [UserEvent(event_id=uuid7(now_ms), user_id=user, kind="view", item_id=item, event_ms=now_ms) for item in truth]
        bought = [
            replace(event, event_id=uuid7(now_ms), kind="purchase", amount_cents=self._prices[event.item_id or ""])
            for event in looked
            if self._random.random() < BUYS
        ]
        self._sender.send(USER_EVENTS, [*looked, *bought], "user_id")
        self._buy(user, [event.item_id or "" for event in bought])

    def _buy(self, user: str, items: Sequence[str]) -> None:
        self._had[int(user[2:]), [self._rows[item] for item in items]] = True
