"""Computes feature values of one entity at a time from its tiles: the only place where windows are added up.

The sink keeps an `Entity` for each user and item it owns; backfill and parity run the same code over tiles from Parquet. Pure;
the time is passed in.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import itemgetter
from typing import Any, NamedTuple

from feature_jobs.online.lanes import Lanes, lanes_of
from schemas.durations import DAY_MS
from schemas.errors import ImpossibleEvent
from schemas.features import AHEAD_MS, SUMS, TILE_MS, WINDOWS, Value, View
from schemas.topics import USER_EVENTS_VALID

SETTLED_AFTER_MS = 9 * DAY_MS  # a tile no longer changes: Flink forgets it eight days after its last event arrived
# A Flink job whose state is built anew sends the tiles of all events that are still in the topic again. The broker removes whole
# segments, which may hold a week more than the retention.
REMEMBERED_MS = USER_EVENTS_VALID.retention_ms + 10 * DAY_MS
_FIELDS = tuple(SUMS)
_SETTLED = struct.Struct(f"<q{len(_FIELDS)}q")  # when the tile last arrived, and its sums
_WEEK_MS = max(WINDOWS.values())
_LANES = Lanes(len(_FIELDS))
_sums_of_record = itemgetter(*_FIELDS)
_RATED, _STARS = _FIELDS.index("rated"), _FIELDS.index("stars")
_BOUGHT, _REVENUE_CENTS = _FIELDS.index("bought"), _FIELDS.index("revenue_cents")
# By window: the features that are sums over it, and those that are not.
_NAMES = tuple(
    (
        tuple(f"{name}_{suffix}" for name, _ in SUMS.values()),
        f"mean_stars_{suffix}",
        f"distinct_items_{suffix}",
        f"sessions_{suffix}",
    )
    for suffix in WINDOWS
)
Key = tuple[int, str, str]  # tile_start_ms, session_id, item_id


class Tile(NamedTuple):
    """sums: in the order of SUMS; the first is n, which rises with each version of the tile. arrived_ms: for a tile from the
    archive, when its last event arrived. appended_ms: the broker's time of that event, which differs for a replay."""

    start_ms: int
    session_id: str
    first_ms: int
    last_ms: int
    sums: tuple[int, ...]
    item_id: str = ""  # of a user's tile
    arrived_ms: int = 0
    appended_ms: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Tile:
        """Convert a user-tile or an item-tile."""
        return cls(
            record["tile_start_ms"],
            record.get("session_id", ""),
            record["first_ms"],
            record["last_ms"],
            _sums_of_record(record),
            record["item_id"] if "user_id" in record else "",
            record.get("arrived_ms", record["last_ms"]),
            record.get("appended_ms", 0),
        )

    def impossible(self, appended_ms: int) -> str | None:
        """Why no valid events can have produced this tile, in words; None if they can. appended_ms: the broker's time of its
        record. Brokers' clocks may differ by AHEAD_MS."""
        if self.start_ms % TILE_MS or not 0 <= self.start_ms <= appended_ms + 2 * AHEAD_MS:
            return f"a tile from {self.start_ms} ms on, appended at {appended_ms} ms"
        if not self.start_ms <= self.first_ms <= self.last_ms < self.start_ms + TILE_MS:
            return f"a tile from {self.start_ms} ms on with events from {self.first_ms} to {self.last_ms} ms"
        if self.sums[0] < 1 or min(self.sums) < 0:
            return f"a tile with the sums {dict(zip(_FIELDS, self.sums, strict=True))}"
        return None

    def after(self, earlier: Tile) -> Tile:
        """This tile with the events of an earlier part of it added."""
        return Tile(
            self.start_ms,
            self.session_id,
            min(self.first_ms, earlier.first_ms),
            max(self.last_ms, earlier.last_ms),
            tuple(map(int.__add__, self.sums, earlier.sums)),
            self.item_id,
            max(self.arrived_ms, earlier.arrived_ms),
            max(self.appended_ms, earlier.appended_ms),
        )

    @property
    def key(self) -> Key:
        return self.start_ms, self.session_id, self.item_id


def tile_of(record: Mapping[str, Any], offset: int, appended_ms: int) -> Tile:
    """Raises ImpossibleEvent if no valid events can have produced the tile. appended_ms: the broker's time of the record."""
    tile = Tile.of(record)
    cause = tile.impossible(appended_ms)
    if cause is not None:
        raise ImpossibleEvent(cause)
    return tile


@dataclass(slots=True)
class _Window:
    """Sums over the tiles that started after `edge_ms`: those of `keys[first:]`. sums: as lanes. items, sessions: number of tiles
    of each."""

    length_ms: int
    edge_ms: int = -(2**62)
    first: int = 0
    sums: int = 0
    items: dict[str, int] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)

    def enter(self, tile: Tile, sums: int) -> None:
        self.sums += sums
        if tile.item_id:
            self.items[tile.item_id] = self.items.get(tile.item_id, 0) + 1
        if tile.session_id:
            self.sessions[tile.session_id] = self.sessions.get(tile.session_id, 0) + 1

    def leave(self, tile: Tile) -> None:
        self.sums -= lanes_of(tile.sums)
        _take_away(self.items, tile.item_id)
        _take_away(self.sessions, tile.session_id)


def _take_away(counts: dict[str, int], name: str) -> None:
    if not name:
        return
    counts[name] -= 1
    if not counts[name]:
        del counts[name]


class Entity:
    """Everything of one user or item. Memory is bounded by its tiles of the last nine days, and by a hash and the sums of each
    tile for forty days: a repeated tile is recognised as long as Flink can send it again. Older tiles are in the totals only.

    What is settled depends on the records and their times alone: a process that reads the topic anew gets the same state.
    """

    __slots__ = (
        "_keys",
        "_seen_ms",
        "_sessions",
        "_settled",
        "_tiles",
        "_totals",
        "_windows",
        "last_ms",
        "session_count",
        "session_ms",
    )

    def __init__(self) -> None:
        self._tiles: dict[Key, Tile] = {}
        self._keys: list[Key] = []  # sorted
        self._seen_ms: dict[Key, int] = {}  # when each tile last arrived, oldest first
        self._settled: dict[bytes, bytes] = {}  # by hash of the key, oldest first
        self._windows = [_Window(length_ms) for length_ms in WINDOWS.values()]
        self._sessions: dict[str, tuple[int, int, int]] = {}  # first and last event, and when it last arrived
        self._totals = 0  # as lanes
        self.session_ms = self.session_count = 0
        self.last_ms = 0

    def put(self, tile: Tile, came_ms: int) -> bool:
        """Take a version of a tile, which arrived at came_ms by the broker's clock. False if a newer or equal version is held."""
        key = tile.key
        old = self._tiles.get(key)
        held = old.sums if old is not None else self._settled_sums(key)
        if held is not None and held[0] >= tile.sums[0]:
            return False
        change = lanes_of(tile.sums) - (lanes_of(held) if held is not None else 0)
        if old is None and held is not None:
            self._settle_one(tile, came_ms)  # it is in no window
        else:
            self._hold(tile, old, change, came_ms)
        self._totals += change
        self.last_ms = max(self.last_ms, tile.last_ms)
        self._visit(tile, came_ms)
        self._settle(came_ms)
        return True

    @property
    def totals(self) -> tuple[int, ...]:
        """Sums of all time, in the order of SUMS."""
        return _LANES.sums(self._totals)

    def _hold(self, tile: Tile, old: Tile | None, change: int, came_ms: int) -> None:
        """change: what the tile adds to the sums, as lanes; only the difference if an earlier version of it is held."""
        key = tile.key
        if old is None:
            self._insert(key)
        self._tiles[key] = tile
        for window in self._windows:
            if tile.start_ms <= window.edge_ms:
                continue
            if old is None:
                window.enter(tile, change)
            else:
                window.sums += change
        self._seen_ms.pop(key, None)
        self._seen_ms[key] = came_ms

    def advance(self, now_ms: int) -> bool:
        """Remove tiles from windows that they have left; whether any left."""
        moved = False
        for window in self._windows:
            edge_ms = now_ms - window.length_ms
            if edge_ms <= window.edge_ms:
                continue
            window.edge_ms = edge_ms
            while window.first < len(self._keys) and self._keys[window.first][0] <= edge_ms:
                tile = self._tiles[self._keys[window.first]]
                window.leave(tile)
                window.first += 1
                moved = True
        return moved

    def next_change_ms(self) -> int | None:
        """When the next tile leaves a window; None if all windows are empty."""
        due = [self._keys[w.first][0] + w.length_ms for w in self._windows if w.first < len(self._keys)]
        return min(due, default=None)

    def values(self, view: View, attributes: Mapping[str, Any] | None) -> dict[str, Value]:
        """Values by feature name, as of the last `advance`. attributes: the record of the compacted topic, if there is one."""
        found = view.defaults()
        for name in view.attribute_fields:
            if attributes is not None and attributes[name] is not None:
                found[name] = attributes[name]
        totals = self.totals
        found["total_purchases"], found["lifetime_value"] = totals[_BOUGHT], totals[_REVENUE_CENTS] / 100
        found["last_seen_ms"] = self.last_ms
        for (sums, mean_stars, distinct_items, sessions), window in zip(_NAMES, self._windows, strict=True):
            values = _LANES.sums(window.sums)
            found.update(zip(sums, values, strict=True))
            found[mean_stars] = values[_STARS] / values[_RATED] if values[_RATED] else 0.0
            if view.entity == "user":
                found[distinct_items], found[sessions] = len(window.items), len(window.sessions)
        if view.entity == "user":
            found["avg_session_duration"] = self.session_ms / 1000 / self.session_count if self.session_count else 0.0
        return found

    def _insert(self, key: Key) -> None:
        at = bisect_left(self._keys, key)
        self._keys.insert(at, key)
        for window in self._windows:
            if key[0] <= window.edge_ms:
                window.first += 1  # it is before the edge, and so before the first

    def _visit(self, tile: Tile, came_ms: int) -> None:
        """Update the visit's duration: it lasts from its first to its last event, over all its tiles."""
        if not tile.session_id:
            return
        known = self._sessions.pop(tile.session_id, None)
        if known is None:
            self.session_count += 1
            first_ms, last_ms = tile.first_ms, tile.last_ms
            self.session_ms += last_ms - first_ms
        else:
            first_ms, last_ms = min(known[0], tile.first_ms), max(known[1], tile.last_ms)
            self.session_ms += (last_ms - first_ms) - (known[1] - known[0])
        self._sessions[tile.session_id] = first_ms, last_ms, came_ms
        while next(iter(self._sessions.values()))[2] <= came_ms - REMEMBERED_MS:
            del self._sessions[next(iter(self._sessions))]

    def _settle(self, now_ms: int) -> None:
        """Reduce tiles that cannot change any more and are in no window to their sums."""
        while self._seen_ms:
            key, came_ms = next(iter(self._seen_ms.items()))
            if came_ms > now_ms - SETTLED_AFTER_MS or key[0] > now_ms - _WEEK_MS:
                break
            self.advance(now_ms)
            self._settle_one(self._tiles[key], came_ms)
            at = bisect_left(self._keys, key)
            del self._keys[at], self._tiles[key], self._seen_ms[key]
            for window in self._windows:
                window.first -= 1
        while self._settled:
            name, packed = next(iter(self._settled.items()))
            if _SETTLED.unpack(packed)[0] > now_ms - REMEMBERED_MS:
                break
            del self._settled[name]

    def _settle_one(self, tile: Tile, came_ms: int) -> None:
        name = _hash(tile.key)
        self._settled.pop(name, None)
        self._settled[name] = _SETTLED.pack(came_ms, *tile.sums)

    def _settled_sums(self, key: Key) -> tuple[int, ...] | None:
        packed = self._settled.get(_hash(key)) if self._settled else None
        return None if packed is None else _SETTLED.unpack(packed)[1:]


def _hash(key: Key) -> bytes:
    return blake2b("\0".join(map(str, key)).encode(), digest_size=8).digest()
