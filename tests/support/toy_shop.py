"""A small catalogue of which each person likes one part, with events enough to learn it in seconds."""

from __future__ import annotations

import numpy as np

from training_triggers.trainers.recommending.interactions import Interactions, Items, Profile, in_order
from training_triggers.trainers.recommending.ranker_training import RankerSettings
from training_triggers.trainers.recommending.tower_training import TowerSettings
from training_triggers.trainers.recommending.training_options import RecommendationSettings

GROUPS = ("kitchen", "garden", "books", "audio", "toys")
FAST = RecommendationSettings(
    TowerSettings(width=16, history=20, horizon=6, places=12, epochs=8, rate=1e-2),
    RankerSettings(candidates=80, negatives=60, epochs=6, rate=1e-2),
    again=1,
    neighbours=16,
)


def toy_shop(users: int = 150, a_group: int = 24, events: int = 24, seed: int = 0) -> Interactions:
    """Popularity falls within each group; nine of ten events of a person are in one group, which the country tells."""
    random = np.random.default_rng(seed)
    ids = [f"{group}-{number}" for group in GROUPS for number in range(a_group)]
    groups = [GROUPS[at // a_group] for at in range(len(ids))]
    items = Items(ids, [f"Thing {item}" for item in ids], [{"category": group, "price_cents": 999.0} for group in groups])
    shares = 1 / (np.arange(a_group) + 3)
    rows: list[tuple[str, str, str, float]] = []
    profiles: dict[str, Profile] = {}
    for user in range(users):
        favourite = int(random.integers(len(GROUPS)))
        profiles[f"u{user}"] = {"country": f"C{favourite}", "age": float(random.integers(18, 80))}
        for at in range(events):
            group = favourite if random.random() < 0.9 else int(random.integers(len(GROUPS)))
            number = int(random.choice(a_group, p=shares / shares.sum()))
            rows.append((f"u{user}", f"{GROUPS[group]}-{number}", "view", float(at * 60)))
    return in_order("toy shop", items, profiles, rows)
