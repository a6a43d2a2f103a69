"""The only definition of the features: aggregate views over events, in plain SQL that Flink runs over the stream and DuckDB over
Parquet.

Each view is a `GROUP BY` of an entity and a five-minute tile, without watermark: a tile is the sum of its events, whenever they
arrive. The items that a user touched are a row each: a set as an aggregate costs Flink four times as much (docs/adr/0015). All
constructs used here exist in both dialects with the same meaning.
"""

from __future__ import annotations

from schemas.features import TILE_MS

_COUNTS = """\
       SUM(CASE WHEN kind = 'view' THEN 1 ELSE 0 END) AS viewed,
       SUM(CASE WHEN kind = 'cart' THEN 1 ELSE 0 END) AS carted,
       SUM(CASE WHEN kind = 'purchase' THEN 1 ELSE 0 END) AS bought,
       SUM(CASE WHEN kind = 'purchase' THEN CAST(quantity AS BIGINT) ELSE 0 END) AS units,
       SUM(CASE WHEN kind = 'purchase' THEN COALESCE(amount_cents, 0) ELSE 0 END) AS revenue_cents,
       SUM(CASE WHEN rating IS NULL THEN 0 ELSE 1 END) AS rated,
       SUM(COALESCE(rating, 0)) AS stars"""

_TILE = f"event_ms - MOD(event_ms, {TILE_MS})"
# The archive also splits a tile's events by arrival time, to show which of them the stream had at a given time.
_ARRIVED = ",\n       MAX(arrived_ms) AS arrived_ms,\n       MAX(appended_ms) AS appended_ms"
_ARRIVAL = f", arrived_ms - MOD(arrived_ms, {TILE_MS})"


def user_tiles(events: str, *, by_arrival: bool = False) -> str:
    """SQL with one row per user, tile, visit and item. events: the table to read. by_arrival: also one row per five minutes of
    arrival; the table then has the columns `arrived_ms` and `appended_ms`."""
    return f"""\
SELECT user_id,
       {_TILE} AS tile_start_ms,
       COALESCE(session_id, '') AS session_id,
       COALESCE(item_id, '') AS item_id,
       COUNT(*) AS n,
       MIN(event_ms) AS first_ms,
       MAX(event_ms) AS last_ms,
{_COUNTS}{_ARRIVED if by_arrival else ""}
FROM {events}
GROUP BY user_id, {_TILE}, COALESCE(session_id, ''), COALESCE(item_id, ''){_ARRIVAL if by_arrival else ""}"""


def item_tiles(events: str, *, by_arrival: bool = False) -> str:
    """SQL with one row per item and tile. See `user_tiles`."""
    return f"""\
SELECT item_id,
       {_TILE} AS tile_start_ms,
       COUNT(*) AS n,
       MIN(event_ms) AS first_ms,
       MAX(event_ms) AS last_ms,
{_COUNTS}{_ARRIVED if by_arrival else ""}
FROM {events}
WHERE item_id IS NOT NULL
GROUP BY item_id, {_TILE}{_ARRIVAL if by_arrival else ""}"""
