"""The features by brute force, from the raw events alone: the values that every store must contain in the end. Written from
the text of `schemas/features.py`, without the code that computes the features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from schemas.features import TILE_MS, WINDOWS
from schemas.generated import Item, UserEvent, UserProfile


def tile_of(event: UserEvent) -> int:
    return event.event_ms - event.event_ms % TILE_MS


def _sums(events: list[UserEvent], suffix: str) -> dict[str, Any]:
    purchases = [e for e in events if e.kind == "purchase"]
    stars = [e.rating for e in events if e.rating is not None]
    return {
        f"events_{suffix}": len(events),
        f"viewed_{suffix}": sum(e.kind == "view" for e in events),
        f"carted_{suffix}": sum(e.kind == "cart" for e in events),
        f"bought_{suffix}": len(purchases),
        f"units_{suffix}": sum(e.quantity for e in purchases),
        f"revenue_cents_{suffix}": sum(e.amount_cents or 0 for e in purchases),
        f"rated_{suffix}": len(stars),
        f"stars_{suffix}": sum(stars),
        f"mean_stars_{suffix}": sum(stars) / len(stars) if stars else 0.0,
    }


def _of(events: list[UserEvent], at_ms: int) -> dict[str, Any]:
    purchases = [e for e in events if e.kind == "purchase"]
    found: dict[str, Any] = {
        "total_purchases": len(purchases),
        "lifetime_value": sum(e.amount_cents or 0 for e in purchases) / 100,
        "last_seen_ms": max((e.event_ms for e in events), default=0),
    }
    for suffix, length_ms in WINDOWS.items():
        found |= _sums([e for e in events if tile_of(e) > at_ms - length_ms], suffix)
    return found


def user_values(events: Iterable[UserEvent], at_ms: int, profile: UserProfile | None = None) -> dict[str, Any]:
    """The values of one user. events: all of the user's up to at_ms, or all in tiles that began by then."""
    mine = list(events)
    found = _of(mine, at_ms)
    for suffix, length_ms in WINDOWS.items():
        inside = [e for e in mine if tile_of(e) > at_ms - length_ms]
        found[f"distinct_items_{suffix}"] = len({e.item_id for e in inside if e.item_id})
        found[f"sessions_{suffix}"] = len({e.session_id for e in inside if e.session_id})
    visits: dict[str, list[int]] = defaultdict(list)
    for event in mine:
        if event.session_id:
            visits[event.session_id].append(event.event_ms)
    lengths = [max(times) - min(times) for times in visits.values()]
    found["avg_session_duration"] = sum(lengths) / 1000 / len(lengths) if lengths else 0.0
    found["age"] = -1 if profile is None or profile.age is None else profile.age
    found["country"] = "" if profile is None or profile.country is None else profile.country
    return found


def item_values(events: Iterable[UserEvent], at_ms: int, item: Item | None = None) -> dict[str, Any]:
    found = _of(list(events), at_ms)
    found["category"] = "" if item is None else item.category
    found["price_cents"] = -1 if item is None or item.price_cents is None else item.price_cents
    return found


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compares integers and texts exactly, floats within a relative 1e-9."""
    assert one.keys() == other.keys(), one.keys() ^ other.keys()
    return {
        name: (one[name], other[name])
        for name in one
        if (
            abs(one[name] - other[name]) > 1e-9 * max(1.0, abs(other[name]))
            if isinstance(other[name], float)
            else one[name] != other[name]
        )
    }


def tiles_of(events: Iterable[UserEvent], *, by_visit: bool) -> list[dict[str, Any]]:
    """Final tiles of one entity, as records of `user-tile` (by_visit) or `item-tile`."""
    groups: dict[tuple[int, str, str], list[UserEvent]] = defaultdict(list)
    for event in events:
        groups[tile_of(event), *((event.session_id or "", event.item_id or "") if by_visit else ("", ""))].append(event)
    found = []
    for (start_ms, session, item), inside in groups.items():
        sums = {name.rpartition("_")[0]: value for name, value in _sums(inside, "x").items()}
        found.append(
            {
                "tile_start_ms": start_ms,
                "session_id": session,
                "n": sums.pop("events"),
                "first_ms": min(e.event_ms for e in inside),
                "last_ms": max(e.event_ms for e in inside),
                **({"user_id": "u", "item_id": item} if by_visit else {"item_id": "i"}),
                **{k: v for k, v in sums.items() if k != "mean_stars"},
            }
        )
    return found
