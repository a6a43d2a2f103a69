"""Generates realistic shop traffic: profiles, a catalogue, visits with views, carts and purchases.

Popularity has a long tail (Zipf), activity differs between people (log-normal), days have a rhythm and the year a season, prices
depend on the category. Each person has a taste: some categories more than others, and dear or cheap things. Deterministic for a seed; pure except for the clock that the caller passes in.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.durations import DAY_MS, HOUR_MS
from schemas.generated import Item, UserEvent, UserProfile

_CATEGORIES: dict[str, tuple[tuple[str, ...], tuple[str, ...], float]] = {  # adjectives, nouns, median price in cents
    "kitchen": (("Enamel", "Cast-iron", "Bamboo", "Ceramic"), ("mug", "pan", "board", "bowl", "kettle"), 2_400),
    "garden": (("Folding", "Steel", "Copper", "Hardwood"), ("trowel", "chair", "watering can", "planter"), 3_900),
    "books": (("Illustrated", "Annotated", "Pocket"), ("atlas", "cookbook", "novel", "field guide"), 1_700),
    "sport": (("Light", "Padded", "Trail"), ("backpack", "bottle", "jacket", "mat"), 5_200),
    "audio": (("Wireless", "Compact", "Studio"), ("speaker", "headphones", "turntable"), 8_900),
    "toys": (("Wooden", "Soft", "Magnetic"), ("train", "bear", "puzzle", "blocks"), 2_100),
}
_COUNTRIES = ("DE", "FR", "ES", "PL", "NL", "SE", "IT", "PT")
_COUNTRY_SHARES = (0.28, 0.2, 0.13, 0.12, 0.08, 0.07, 0.07, 0.05)
_SEASON = {"garden": 0.6, "toys": -0.5, "sport": 0.3}  # amplitude over the year, peak in June; below 0: in December


@dataclass(frozen=True)
class World:
    """users, items: how many. visits: numbers streams of visits of the same people and items. only: the number of the person whose
    visits they are; None for everybody's. fashion: numbers the orders in which the items are in demand; people keep their tastes."""

    users: int = 2_000
    items: int = 500
    seed: int = 7
    visits: int = 0
    only: int | None = None
    fashion: int = 0

    def number_of(self, user_id: str) -> int | None:
        """None for somebody who is not of this world."""
        word, _, number = user_id.partition("-")
        known = word == "u" and number.isascii() and number.isdecimal() and len(number) < 9 and int(number) < self.users
        return int(number) if known else None

    def profiles(self, now_ms: int) -> list[UserProfile]:
        random = np.random.default_rng((self.seed, 1))
        ages = np.clip(random.gamma(9.0, 4.2, self.users), 16, 95).astype(int)
        countries = random.choice(_COUNTRIES, self.users, p=_COUNTRY_SHARES)
        return [
            UserProfile(user_id=f"u-{i}", age=int(age), country=str(country), updated_ms=now_ms)
            for i, (age, country) in enumerate(zip(ages, countries, strict=True))
        ]

    def catalogue(self, now_ms: int) -> list[Item]:
        random = np.random.default_rng((self.seed, 2))
        names = list(_CATEGORIES)
        made = []
        for i in range(self.items):
            category = names[int(random.integers(len(names)))]
            adjectives, nouns, median = _CATEGORIES[category]
            price = int(median * math.exp(random.normal(0, 0.5)))
            title = f"{adjectives[int(random.integers(len(adjectives)))]} {nouns[int(random.integers(len(nouns)))]}"
            made.append(
                Item(
                    item_id=f"i-{i}",
                    title=title,
                    category=category,
                    price_cents=max(99, price // 100 * 100 + 99),
                    updated_ms=now_ms,
                )
            )
        return made

    def popularity(self) -> npt.NDArray[np.float64]:
        """float64 (items,): how much each item is in demand, whoever asks."""
        seed = (self.seed, 5, self.fashion) if self.fashion else (self.seed, 5)
        order = np.random.default_rng(seed).permutation(self.items)
        in_order: npt.NDArray[np.float64] = 1.0 / np.arange(1, self.items + 1, dtype=np.float64) ** 1.05
        made: npt.NDArray[np.float64] = in_order[np.argsort(order)]
        return made

    def events(self, from_ms: int, to_ms: int, per_s: float) -> Iterator[UserEvent]:
        """Events ordered by time. per_s: events per second on average over a day, before season and hour."""
        visits = _Visits(self, self.catalogue(from_ms), per_s)
        yield from visits.between(from_ms, to_ms)


class Tastes:
    """What each person likes, of a catalogue."""

    def __init__(self, world: World, items: Sequence[Item]) -> None:
        names = list(_CATEGORIES)
        random = np.random.default_rng((world.seed, 6))
        self._categories = np.array([names.index(item.category) for item in items], np.int64)
        medians = np.array([_CATEGORIES[item.category][2] for item in items])
        self._dearness = np.log(np.array([item.price_cents or 1 for item in items]) / medians)
        self._shares = random.dirichlet([0.4] * len(names), world.users) * len(names)
        self._budgets = random.normal(0.0, 0.5, world.users)

    def of(self, user: int) -> npt.NDArray[np.float64]:
        """float64 (items,): how much more than an average person the user likes each item."""
        fits = 1.6 * np.exp(-0.5 * ((self._dearness - self._budgets[user]) / 0.5) ** 2)
        liked: npt.NDArray[np.float64] = (0.05 + 0.95 * self._shares[user][self._categories]) * (0.1 + fits)
        return liked


class _Visits:
    """Visits begin as a Poisson process; each is a short walk through the catalogue."""

    EVENTS_A_VISIT = 6.5  # on average, for the rate

    def __init__(self, world: World, items: list[Item], per_s: float) -> None:
        self._random = np.random.default_rng((world.seed, 3, world.visits))
        self._items, self._per_s = items, per_s
        activity = np.random.default_rng((world.seed, 4)).lognormal(0.0, 1.2, world.users)
        self._users = np.cumsum(activity / activity.sum())
        self._popularity = world.popularity()
        self._tastes = Tastes(world, items)
        self._only, self._number = world.only, 0

    def between(self, from_ms: int, to_ms: int) -> Iterator[UserEvent]:
        open_visits: list[tuple[int, int, UserEvent]] = []
        at_ms = float(from_ms)
        while True:
            rate = max(1e-9, self._per_s / self.EVENTS_A_VISIT * rhythm(int(at_ms)))
            at_ms += self._random.exponential(1000 / rate)
            while open_visits and (open_visits[0][0] < at_ms or at_ms >= to_ms):
                due_ms, _, event = heapq.heappop(open_visits)
                if due_ms < to_ms:
                    yield event
            if at_ms >= to_ms:
                return
            for event in self._visit(int(at_ms)):
                heapq.heappush(open_visits, (event.event_ms, self._number * 100 + len(open_visits) % 100, event))

    def _visit(self, start_ms: int) -> list[UserEvent]:
        random, self._number = self._random, self._number + 1
        drawn = min(len(self._users) - 1, int(np.searchsorted(self._users, random.random())))
        person = drawn if self._only is None else self._only
        user, session = f"u-{person}", f"s-{start_ms}-{self._number}"
        seasons = {category: season(category, start_ms) for category in _CATEGORIES}
        weights = self._popularity * np.array([seasons[item.category] for item in self._items]) * self._tastes.of(person)
        chances = np.cumsum(weights / weights.sum())
        found: list[UserEvent] = []
        at_ms = start_ms

        def add(kind: str, item: Item | None, **more: int) -> None:
            found.append(
                UserEvent(
                    event_id=f"{session}-{len(found)}",
                    user_id=user,
                    kind=kind,
                    item_id=None if item is None else item.item_id,
                    session_id=session,
                    event_ms=at_ms,
                    **more,
                )
            )

        for _ in range(1 + int(random.geometric(0.28))):
            item = self._items[min(len(self._items) - 1, int(np.searchsorted(chances, random.random())))]
            if random.random() < 0.2:
                add("search", None)
                at_ms += int(random.exponential(12_000))
            add("view", item)
            at_ms += int(random.exponential(35_000))
            if random.random() < 0.22:
                pieces = 1 + int(random.random() < 0.15)
                add("cart", item, quantity=pieces)
                at_ms += int(random.exponential(25_000))
                if random.random() < 0.45:
                    add("purchase", item, quantity=pieces, amount_cents=pieces * (item.price_cents or 0))
                    at_ms += int(random.exponential(15_000))
                    if random.random() < 0.25:
                        add("rating", item, rating=int(random.choice([1, 2, 3, 4, 5], p=[0.05, 0.06, 0.13, 0.31, 0.45])))
        return found


def rhythm(at_ms: int) -> float:
    """Activity in this hour relative to the day's mean: lowest at four, highest at eight in the evening (UTC)."""
    hour = at_ms % DAY_MS / HOUR_MS
    return 1.0 + 0.75 * math.cos((hour - 20.0) / 24.0 * 2 * math.pi)


def season(category: str, at_ms: int) -> float:
    day = at_ms / DAY_MS % 365.25
    return 1.0 + _SEASON.get(category, 0.0) * math.cos((day - 172.0) / 365.25 * 2 * math.pi)
