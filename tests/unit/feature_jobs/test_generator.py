"""Generated traffic: the same for a seed, and by people who have a taste."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from feature_jobs.traffic.generator import Tastes, World
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
    for event in world.events(NOW_MS, NOW_MS + 20 * HOUR_MS, 0.5):
        if event.kind == "view":
            liked[event.user_id].append(tastes.of(int(event.user_id[2:]))[number[event.item_id or ""]])
    every = np.mean([tastes.of(user).mean() for user in range(world.users)])
    assert np.mean([np.mean(of_user) for of_user in liked.values()]) > 2 * every
    categories = Counter(max(items, key=lambda item: tastes.of(user)[number[item.item_id]]).category for user in range(40))
    assert len(categories) > 3
