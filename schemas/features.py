"""Defines every feature once: name, type, default, meaning. This is the contract between the writer (`feature_jobs`) and the
readers (`processors`, Feast); the blobs in the online store, the Feast repository and the pages derive from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache

from schemas.durations import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.errors import BadSettings
from schemas.topic_kinds import Record, Topic
from schemas.topics import ITEM_FEATURES, ITEMS, USER_EVENTS_VALID, USER_FEATURES, USER_PROFILES

TILE_MS = 5 * MINUTE_MS
# By suffix. At time t a window contains the tiles that started after t - length; the newest of them is still being filled. An
# event counts from its arrival on, even if its clock is ahead (by at most AHEAD_MS).
WINDOWS: dict[str, int] = {"5m": TILE_MS, "1h": HOUR_MS, "24h": DAY_MS, "7d": 7 * DAY_MS}
LATENESS_MS = 7 * DAY_MS  # validate sets older events aside
MAX_ID_CHARS = 200  # of a user, an item, a visit, an event; validate refuses longer ones
AHEAD_MS = HOUR_MS  # clocks differ; validate refuses an event further ahead of the broker


class Kind(Enum):
    INT = "int"  # int64
    FLOAT = "float"  # float64
    TEXT = "text"  # UTF-8


Value = int | float | str


@dataclass(frozen=True)
class Feature:
    """`default` is the value that a reader gets, marked as such, if there is no value and its policy permits a default."""

    name: str
    kind: Kind
    meaning: str
    default: Value


@dataclass(frozen=True, eq=False)
class View:
    """The features of one entity that are written together: one blob in the online store. Views compare by identity: so a
    cache by view (layouts of blobs) finds its entry without comparing fifty features."""

    name: str
    entity: str
    features: tuple[Feature, ...]
    ttl_ms: int
    source: Topic[Record]  # what the sink reads: tiles, or events
    attributes: Topic[Record] | None = None  # the compacted topic of attributes that do not come from events
    attribute_fields: tuple[str, ...] = ()
    kept_ms: int | None = None  # an entity that had no record for so long is forgotten, and its blob goes; None for never

    def defaults(self) -> dict[str, Value]:
        """The default of each feature, by name; a dictionary of the caller's own."""
        return _defaults(self).copy()

    def feature(self, name: str) -> Feature:
        """Raises BadSettings if the view has no such feature."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise BadSettings(f"{self.name} has no feature {name}; it has {', '.join(f.name for f in self.features)}")


@cache
def _defaults(view: View) -> dict[str, Value]:
    return {feature.name: feature.default for feature in view.features}


# Sums of a tile that are added up over windows: field of the tile, name of the feature without the window's suffix.
SUMS: dict[str, tuple[str, str]] = {
    "n": ("events", "events"),
    "viewed": ("viewed", "events of kind view"),
    "carted": ("carted", "events of kind cart"),
    "bought": ("bought", "purchases"),
    "units": ("units", "pieces bought"),
    "revenue_cents": ("revenue_cents", "hundredths of the currency paid"),
    "rated": ("rated", "ratings"),
    "stars": ("stars", "stars of ratings, added up"),
}


def _windowed() -> Iterator[Feature]:
    for suffix in WINDOWS:
        for name, meaning in SUMS.values():
            yield Feature(f"{name}_{suffix}", Kind.INT, f"{meaning} in the last {suffix}", 0)
        yield Feature(f"mean_stars_{suffix}", Kind.FLOAT, f"mean rating in the last {suffix}; 0 where there is none", 0.0)


USER = View(
    name="user_features",
    entity="user",
    features=(
        Feature("age", Kind.INT, "years, from the profile; -1 where unknown", -1),
        Feature("country", Kind.TEXT, "ISO 3166-1, from the profile; empty where unknown", ""),
        Feature("total_purchases", Kind.INT, "purchases of all time", 0),
        Feature("avg_session_duration", Kind.FLOAT, "seconds from first to last event of a visit, mean of all visits", 0.0),
        Feature("lifetime_value", Kind.FLOAT, "paid in all time, in units of the currency", 0.0),
        Feature("last_seen_ms", Kind.INT, "time of the last event, epoch; 0 where there is none", 0),
        *_windowed(),
        *(Feature(f"distinct_items_{suffix}", Kind.INT, f"different items in the last {suffix}", 0) for suffix in WINDOWS),
        *(Feature(f"sessions_{suffix}", Kind.INT, f"different visits in the last {suffix}", 0) for suffix in WINDOWS),
    ),
    ttl_ms=DAY_MS,
    source=USER_FEATURES,
    attributes=USER_PROFILES,
    attribute_fields=("age", "country"),
)
ITEM = View(
    name="item_features",
    entity="item",
    features=(
        Feature("category", Kind.TEXT, "of the catalogue; empty where unknown", ""),
        Feature("price_cents", Kind.INT, "hundredths of the currency, of the catalogue; -1 where unknown", -1),
        Feature("total_purchases", Kind.INT, "purchases of all time", 0),
        Feature("lifetime_value", Kind.FLOAT, "paid for it in all time, in units of the currency", 0.0),
        Feature("last_seen_ms", Kind.INT, "time of the last event, epoch; 0 where there is none", 0),
        *_windowed(),
    ),
    ttl_ms=DAY_MS,
    source=ITEM_FEATURES,
    attributes=ITEMS,
    attribute_fields=("category", "price_cents"),
)
VIEWS: tuple[View, ...] = (USER, ITEM)

MAX_RECENT = 200
# Online only: training reads the events themselves, so it is none of the views that the offline store has too.
RECENT = View(
    name="user_recent",
    entity="user",
    features=(
        Feature(
            "events", Kind.TEXT, f"the last {MAX_RECENT} events with an item, oldest first: JSON, [item, kind, time in ms]", "[]"
        ),
    ),
    ttl_ms=DAY_MS,
    source=USER_EVENTS_VALID,
    kept_ms=30 * DAY_MS,
)
ONLINE_VIEWS = (*VIEWS, RECENT)  # all that a sink writes


def view_of(entity: str) -> View:
    """Raises BadSettings if no view has that entity."""
    for view in VIEWS:
        if view.entity == entity:
            return view
    raise BadSettings(f"no features of {entity!r}; there are those of {', '.join(v.entity for v in VIEWS)}")
