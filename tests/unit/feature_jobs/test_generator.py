"""Generated traffic: the same for a seed, and by people who have a taste."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from feature_jobs.traffic.generator import Tastes, World
from feature_jobs.traffic.shop import reactions
from processors.features.validate import impossible
from schemas.durations import HOUR_MS

NOW_MS = 1_790_000_000_000


def test_streams_of_visits_differ_and_people_and_items_stay() -> None:
    first, again, other = World(50, 40), World(50, 40), World(50, 40, visits=1)
    assert first.catalogue(NOW_MS) == other.catalogue(NOW_MS)
    events = [list(world.events(NOW_MS, NOW_MS + HOUR_MS, 0.1)) for world in (first, again, other)]
    assert events[0] == events[1] != events[2]


def test_people_look_at_what_they_like() -> None:
    world = World(40, 200)
    items = world.catalogue(NOW_MS)
    tastes, number = Tastes(world, items), {item.item_id: row for row, item in enumerate(items)}
    liked = defaultdict(list)
    for event in world.events(NOW_MS, NOW_MS + 4 * HOUR_MS, 0.5):
        if event.kind == "view":
            liked[event.user_id].append(tastes.of(int(event.user_id[2:]))[number[event.item_id or ""]])
    every = np.mean([tastes.of(user).mean() for user in range(world.users)])
    assert np.mean([np.mean(of_user) for of_user in liked.values()]) > 2 * every
    categories = Counter(max(items, key=lambda item: tastes.of(user)[number[item.item_id]]).category for user in range(40))
    assert len(categories) > 3


def test_another_fashion_is_of_the_same_people_and_items() -> None:
    before, after = World(50, 40), World(50, 40, fashion=1)
    assert before.catalogue(NOW_MS) == after.catalogue(NOW_MS)
    tastes = [Tastes(world, world.catalogue(NOW_MS)).of(7) for world in (before, after)]
    assert (tastes[0] == tastes[1]).all()
    assert sorted(before.popularity()) == sorted(after.popularity())
    most_wanted = [np.argsort(-world.popularity())[:5].tolist() for world in (before, after)]
    assert len(set(most_wanted[0]) & set(most_wanted[1])) <= 2


def test_people_follow_recommendations_that_fit_their_taste() -> None:
    items = [{"item_id": f"i-{i}"} for i in range(10)]
    result = {"request_id": "r", "user_id": "u-1", "items": items}
    random = np.random.default_rng(1)
    looked = {
        taste: sum(
            event.kind == "view"
            for _ in range(300)
            for event in reactions(result, {item["item_id"]: taste for item in items}, random, NOW_MS)
        )
        for taste in (0.1, 1.0, 4.0)
    }
    assert looked[0.1] < looked[1.0] / 4 < looked[4.0] / 8
    events = [event for _ in range(300) for event in reactions(result, dict.fromkeys(["i-0", "i-9"], 9.0), random, NOW_MS)]
    assert all(impossible(event, b"u-1", NOW_MS) is None for event in events)
    at = Counter(event.item_id for event in events if event.kind == "view")
    assert set(at) == {"i-0", "i-9"} and at["i-0"] > 2 * at["i-9"]


def test_the_visits_may_be_those_of_one_person() -> None:
    world = World(only=42)
    events = list(world.events(NOW_MS, NOW_MS + 24 * HOUR_MS, 0.01))
    assert len(events) > 100 and {event.user_id for event in events} == {"u-42"}
    assert [World().number_of(name) for name in ("u-42", "u-1999", "u-2000", "v-1", "u-٣", "u-", "")] == [42, 1999, *[None] * 5]
