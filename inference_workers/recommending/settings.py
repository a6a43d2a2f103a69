"""Settings of the task `recommendation`: how its answers are chosen from ranked candidates."""

from __future__ import annotations

from dataclasses import dataclass

from streams.process.settings import setting


@dataclass(frozen=True)
class RecommendationSettings:
    max_candidates: int = setting(1_000, "maximum number of items that are retrieved and ranked for a request", 1, 10_000)
    diversity: float = setting(
        0.1, "how much an item loses for being like those above it, 0 to 1: maximal marginal relevance", 0, 1
    )
    max_per_category: int = setting(0, "maximum number of items of one category in an answer; 0 for no limit", 0, 10_000)
    explore_share: float = setting(
        0.05, "share of an answer's places that are filled by chance, to learn what fits; results name the probability", 0, 1
    )
    seen_kinds: str = setting(
        "view cart purchase rating", "kinds of events after which an item is not recommended again; empty for none"
    )
    blocked_items: str = setting("", "ids of items that are never recommended, separated by spaces")
