"""Validated events to five-minute tiles of users and items, as they change: `user-features-v1`, `item-features-v1`.

At least once: after a restart tiles are written again from the last checkpoint, with versions (`n`) that readers have seen.
"""

from __future__ import annotations

from feature_jobs.aggregates import item_tiles, user_tiles
from feature_jobs.ddl import Addresses, sink, source
from feature_jobs.jobs.job import Plan
from schemas import avro
from schemas.topics import ITEM_FEATURES, USER_EVENTS_VALID, USER_FEATURES

NAME = "tiles"
STATE_DAYS = 8  # validate refuses what is older than 7


def plan(addresses: Addresses) -> Plan:
    return Plan(
        tables=[
            source("events", USER_EVENTS_VALID, addresses, "flink-tiles"),
            sink("user_features", USER_FEATURES, addresses, "user_id"),
            sink("item_features", ITEM_FEATURES, addresses, "item_id"),
        ],
        views=[
            f"CREATE VIEW user_tiles AS {user_tiles('events')}",
            f"CREATE VIEW item_tiles AS {item_tiles('events')}",
        ],
        inserts=[
            _changes("user_features", "user_tiles", "user-tile"),
            _changes("item_features", "item_tiles", "item-tile"),
        ],
        # No mini-batches: before TO_CHANGELOG the planner makes them wait for watermarks, of which there are none here, so that
        # a change came out at the next checkpoint (seen: 4 s in the median, at an allowed latency of 200 ms).
        options={"table.exec.state.ttl": f"{STATE_DAYS} d"},
    )


def _changes(into: str, view: str, record: str) -> str:
    """Each new state of a tile as a record of its own: the sink appends, and readers go by `n`."""
    columns = ", ".join(field["name"] for field in avro.schema(record)["fields"])
    changes = f"TO_CHANGELOG(input => TABLE {view}, op_mapping => MAP['INSERT, UPDATE_AFTER', 'U'])"
    return f"INSERT INTO {into} SELECT {columns} FROM {changes}"
