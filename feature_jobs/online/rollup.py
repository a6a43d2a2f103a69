"""Computes feature values of one entity at a time from its tiles: the only place where windows are added up.

The sink keeps an `Entity` for each user and item it owns; backfill and parity run the same code over tiles from Parquet. Pure;
the time is passed in.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter
from typing import Any, NamedTuple

from feature_jobs.online.lanes import Lanes
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


class _Names:
    """How many different items, or visits, have their newest tile in each band."""

    __slots__ = ("_held", "counts")

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, int]] = {}  # by name: start of its newest tile, and the band of that
        self.counts = [0] * len(WINDOWS)

    def enter(self, name: str, start_ms: int, band: int) -> None:
        """name: empty if the tile has none; then nothing is counted."""
        if not name:
            return
        held = self._held.get(name)
        if held is None:
            self.counts[band] += 1
        elif held[0] < start_ms:
            self.counts[held[1]] -= 1
            self.counts[band] += 1
        else:
            return
        self._held[name] = start_ms, band

    def leave(self, name: str, start_ms: int, band: int) -> None:
        """A tile moves on to the next band. Tiles move in order of their starts, so behind a name's newest tile none is left."""
        if self._held.get(name) != (start_ms, band):
            return
        self.counts[band] -= 1
        if band + 1 < len(self.counts):
            self.counts[band + 1] += 1
            self._held[name] = start_ms, band + 1
        else:
            del self._held[name]


@dataclass(slots=True)
class _Band:
    """The tiles of one window that are in no shorter window, so a tile is counted once and not once a window. The window's tiles
    started after `edge_ms`: those of `keys[first:]`. sums: those of the band's tiles, as lanes."""

    length_ms: int
    edge_ms: int = -(2**62)
    first: int = 0
    sums: int = 0


class Entity:
    """Everything of one user or item. Memory is bounded by its tiles of the last nine days, and by a hash and the sums of each
    tile for forty days: a repeated tile is recognised as long as Flink can send it again. Older tiles are in the totals only.

    What is settled depends on the records and their times alone: a process that reads the topic anew gets the same state.
    """

    __slots__ = (
        "_bands",
        "_items",
        "_keys",
        "_seen_ms",
        "_sessions",
        "_settled",
        "_tiles",
        "_totals",
        "_visits",
        "last_ms",
        "session_count",
        "session_ms",
    )

    def __init__(self) -> None:
        self._tiles: dict[Key, Tile] = {}
        self._keys: list[Key] = []  # sorted
        self._seen_ms: dict[Key, int] = {}  # when each tile last arrived, oldest first
        self._settled: dict[bytes, bytes] = {}  # by hash of the key, oldest first
        self._bands = [_Band(length_ms) for length_ms in WINDOWS.values()]  # the shortest window first
        self._items, self._visits = _Names(), _Names()
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
        change = _LANES.of(tile.sums) - (_LANES.of(held) if held is not None else 0)
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
        band = self._band_of(tile.start_ms)
        if old is None:
            self._insert(key, band)
        self._tiles[key] = tile
        if band < len(self._bands):
            self._bands[band].sums += change
            if old is None:
                self._items.enter(tile.item_id, tile.start_ms, band)
                self._visits.enter(tile.session_id, tile.start_ms, band)
        self._seen_ms.pop(key, None)
        self._seen_ms[key] = came_ms

    def _band_of(self, start_ms: int) -> int:
        """The shortest window that has a tile; the number of windows if none has it."""
        for number, band in enumerate(self._bands):
            if start_ms > band.edge_ms:
                return number
        return len(self._bands)

    def advance(self, now_ms: int) -> bool:
        """Remove tiles from windows that they have left; whether any left."""
        moved = False
        for number, band in enumerate(self._bands):
            edge_ms = now_ms - band.length_ms
            if edge_ms <= band.edge_ms:
                continue
            band.edge_ms = edge_ms
            while band.first < len(self._keys) and self._keys[band.first][0] <= edge_ms:
                self._move_on(self._tiles[self._keys[band.first]], number)
                band.first += 1
                moved = True
        return moved

    def _move_on(self, tile: Tile, band: int) -> None:
        sums = _LANES.of(tile.sums)
        self._bands[band].sums -= sums
        if band + 1 < len(self._bands):
            self._bands[band + 1].sums += sums
        self._items.leave(tile.item_id, tile.start_ms, band)
        self._visits.leave(tile.session_id, tile.start_ms, band)

    def next_change_ms(self) -> int | None:
        """When the next tile leaves a window; None if all windows are empty."""
        due = [self._keys[band.first][0] + band.length_ms for band in self._bands if band.first < len(self._keys)]
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
        inside = items = visits = 0
        for number, (sums, mean_stars, distinct_items, sessions) in enumerate(_NAMES):
            inside += self._bands[number].sums
            values = _LANES.sums(inside)
            found.update(zip(sums, values, strict=True))
            found[mean_stars] = values[_STARS] / values[_RATED] if values[_RATED] else 0.0
            if view.entity == "user":
                items, visits = items + self._items.counts[number], visits + self._visits.counts[number]
                found[distinct_items], found[sessions] = items, visits
        if view.entity == "user":
            found["avg_session_duration"] = self.session_ms / 1000 / self.session_count if self.session_count else 0.0
        return found

    def _insert(self, key: Key, band: int) -> None:
        self._keys.insert(bisect_left(self._keys, key), key)
        for shorter in self._bands[:band]:
            shorter.first += 1  # it is before their edges, and so before their first

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
            for band in self._bands:
                band.first -= 1
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
