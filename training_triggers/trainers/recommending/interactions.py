"""What recommendation learns from: events of users with items, in arrays. `event_readers.py` reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from inference_workers.networks.recommendation.histories import KIND_NUMBERS, VIEW, last_of_each
from inference_workers.networks.recommendation.item_tokens import Attributes
from schemas.errors import BadSettings

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Profile = Mapping[str, float | str]
KIND_WEIGHTS = {"view": 1.0, "click": 1.0, "cart": 2.0, "purchase": 3.0, "rating": 1.0}


@dataclass(frozen=True)
class Items:
    ids: list[str]
    titles: list[str]
    attributes: list[Attributes]


@dataclass(frozen=True)
class Interactions:
    """Events ordered by user, then by time. user, item: numbers, int64 (n,). kind: of histories.KINDS. time_s: float64 (n,), epoch.
    profiles: what is known of each user besides events. option: what the command that trains calls these events.
    users: the id of each user; empty if nobody asks for them. at_events: features of the event's user as the feature store knew them
    at its time, float32 (n, feature_names); NaN where it knew none."""

    name: str
    items: Items
    profiles: list[Profile]
    user: Ints
    item: Ints
    kind: Ints
    time_s: npt.NDArray[np.float64]
    option: str = "DIR"
    users: tuple[str, ...] = ()
    at_events: npt.NDArray[np.float32] | None = None
    feature_names: tuple[str, ...] = ()

    @cached_property
    def starts(self) -> Ints:
        """int64 (users + 1,): where each user's events begin."""
        return np.searchsorted(self.user, np.arange(len(self.profiles) + 1))

    def take(self, rows: Flags) -> Interactions:
        """The events of these rows; users and items keep their numbers."""
        known = None if self.at_events is None else self.at_events[rows]
        user, item, kind, time_s = self.user[rows], self.item[rows], self.kind[rows], self.time_s[rows]
        return replace(self, user=user, item=item, kind=kind, time_s=time_s, at_events=known)

    def known_at(self, event: int) -> Profile:
        """What was known of an event's user at its time: the profile, and the features of the store."""
        profile = self.profiles[int(self.user[event])]
        if self.at_events is None:
            return profile
        return {**profile, **dict(zip(self.feature_names, self.at_events[event].tolist(), strict=True))}

    def known_last(self, user: int) -> Profile:
        """The same at the newest event of a user, by number; the profile alone if there is none."""
        start, end = self.starts[user : user + 2].tolist()
        return self.known_at(end - 1) if end > start else self.profiles[user]

    def split(self, last: float) -> tuple[Interactions, Interactions]:
        """Without the last share of each user's events, and those, rounded down."""
        starts = self.starts
        sizes = np.diff(starts)
        place = np.arange(len(self.user)) - np.repeat(starts[:-1], sizes)
        late = place >= np.repeat(sizes - (sizes * last).astype(np.int64), sizes)
        return self.take(~late), self.take(late)

    def popularity(self) -> npt.NDArray[np.float32]:
        """float32 (items,): events of each, weighted by kind."""
        weights = np.array([KIND_WEIGHTS.get(name, 0.0) for name in KIND_NUMBERS])[self.kind]
        return np.bincount(self.item, weights, len(self.items.ids)).astype(np.float32)

    def merged(self) -> Interactions:
        """As histories.last_of_each."""
        return self.take(last_of_each(self.user * len(self.items.ids) + self.item))


def in_order(
    name: str, items: Items, profiles: Mapping[str, Profile], events: Iterable[tuple[str, str, str, float]]
) -> Interactions:
    """events: user, item, kind, epoch seconds. Events of unknown items are passed over; unknown kinds count as views."""
    rows = {item: row for row, item in enumerate(items.ids)}
    numbers = {user: number for number, user in enumerate(profiles)}
    kept = [
        (numbers[user], rows[item], KIND_NUMBERS.get(kind, VIEW), time_s)
        for user, item, kind, time_s in events
        if item in rows and user in numbers
    ]
    if not kept:
        raise BadSettings(f"{name} has no event of a known user with a known item")
    numbered = np.array([event[:3] for event in kept], np.int64)
    time_s = np.array([event[3] for event in kept], np.float64)
    order = np.lexsort((np.arange(len(kept)), time_s, numbered[:, 0]))
    user, item, kind = numbered[order].T
    return Interactions(name, items, list(profiles.values()), user, item, kind, time_s[order], users=tuple(profiles))
