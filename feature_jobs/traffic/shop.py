"""The generated shop as a process: its people visit it, ask for recommendations, and look at those that fit their taste."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from feature_jobs.traffic.event_sources import Sender, fast
from feature_jobs.traffic.generator import Tastes, World
from schemas.codec import SchemaIds
from schemas.durations import DAY_MS, MINUTE_MS
from schemas.generated import RecommendationRequest, UserEvent
from schemas.topics import RECOMMENDATION_REQUESTS, RECOMMENDATION_RESULTS, USER_EVENTS
from streams.broker import Broadcast
from streams.clock import Clock
from streams.readable import Readable

SHOWN = 12
PAST_MS = 2 * DAY_MS
SLICE_S = 0.2  # at most so long a reaction waits
LOOKS = 0.05  # probability that an average person looks at the first item of a recommendation
MOST_LOOKS = 0.6
BUYS = 0.15  # of those who look


def reactions(result: Mapping[str, Any], likes: Mapping[str, float], random: np.random.Generator, now_ms: int) -> list[UserEvent]:
    """What a person does with a recommendation: the further down an item is, and the less it fits the taste, the less likely it is
    looked at. likes: see `Tastes.of`, by item."""
    found: list[UserEvent] = []
    session = f"r-{result['request_id']}"[:200]

    def add(kind: str, item: str, **more: int) -> None:
        found.append(
            UserEvent(
                event_id=f"{session}-{len(found)}",
                user_id=result["user_id"],
                kind=kind,
                item_id=item,
                session_id=session,
                event_ms=now_ms,
                **more,
            )
        )

    for place, item in enumerate(result["items"]):
        chance = min(MOST_LOOKS, LOOKS * likes.get(item["item_id"], 0.0)) / np.sqrt(1 + place)
        if random.random() < chance:
            add("view", item["item_id"])
            if random.random() < BUYS:
                add("purchase", item["item_id"], amount_cents=100)
    return found


class Shop:
    """ask_share: of the visits that begin with a recommendation."""

    def __init__(
        self, world: World, sender: Sender, results: Broadcast, ids: SchemaIds, clock: Clock, ask_share: float, seed: int
    ) -> None:
        self._world, self._sender, self._clock, self._ask_share = world, sender, clock, ask_share
        self._results, self._readable = results, Readable(RECOMMENDATION_RESULTS, ids, dict)
        self._random = np.random.default_rng((seed, 8))
        items = world.catalogue(clock.now_ms())
        self._items, self._tastes = [item.item_id for item in items], Tastes(world, items)
        self._known: set[str] = set()  # visits that have begun

    def open(self, past_events: int) -> None:
        """Send people and things, and about so many events of the last days."""
        now_ms = self._clock.now_ms()
        self._sender.people_and_things(self._world.profiles(now_ms), self._world.catalogue(now_ms))
        if past_events:
            past = self._world.events(now_ms - PAST_MS, now_ms, 1000 * past_events / PAST_MS)
            fast(self._sender, past, self._clock, lambda sent: None)

    def run(self, world: World, per_s: float) -> None:
        """Send current events until the process ends. world: the same people and items, other visits."""
        begun_ms = self._clock.now_ms()
        stream = world.events(begun_ms - 10 * MINUTE_MS, begun_ms + 10_000 * DAY_MS, per_s)
        for event in itertools.dropwhile(lambda event: event.event_ms < begun_ms, stream):
            while (left_s := (event.event_ms - self._clock.now_ms()) / 1000) > 0:
                self._clock.sleep(min(left_s, SLICE_S))
                self._react()
            self._sender.send(USER_EVENTS, [event], "user_id")
            self._visit(event)

    def _visit(self, event: UserEvent) -> None:
        if event.session_id in self._known:
            return
        self._known.add(event.session_id or "")
        if len(self._known) > 100_000:
            self._known.clear()
        if self._random.random() < self._ask_share:
            asked = RecommendationRequest(user_id=event.user_id, limit=SHOWN, surface="shop")
            self._sender.send(RECOMMENDATION_REQUESTS, [asked], "user_id")

    def _react(self) -> None:
        results = [result for result in self._readable.of(self._results.poll()) if result["status"] == "ok" and result["items"]]
        events = [
            event
            for result in results
            if (user := self._world.number_of(result["user_id"])) is not None
            for event in self._of(result, user)
        ]
        self._sender.send(USER_EVENTS, events, "user_id")

    def _of(self, result: Mapping[str, Any], user: int) -> list[UserEvent]:
        likes = dict(zip(self._items, self._tastes.of(user).tolist(), strict=True))
        return reactions(result, likes, self._random, self._clock.now_ms())
