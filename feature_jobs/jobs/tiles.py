"""Turns validated events into five-minute tiles of users and items, as they change: `user-features-v1`, `item-features-v1`.

At least once: after a restart, tiles since the last checkpoint are written again, with versions (`n`) that readers already have.
"""

from __future__ import annotations

from feature_jobs.flink.aggregates import item_tiles, user_tiles
from feature_jobs.flink.ddl import Addresses, sink, source
from feature_jobs.jobs.job import Plan
from schemas import avro
from schemas.topics import ITEM_FEATURES, USER_EVENTS_VALID, USER_FEATURES
from schemas.vocabulary import FlinkGroup

NAME = "tiles"
BATCH_MS = 100
# Changes of a tile within BATCH_MS are emitted as one. Before TO_CHANGELOG the planner ends mini-batches at watermarks, so the
# table has a watermark, used for nothing else (no window, nothing is dropped): the broker's clock, emitted every BATCH_MS. A
# partition idle for that long does not hold it back, and with 1 ms of latency allowed any later record advances it.
_CLOCK = ("appended TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL", "WATERMARK FOR appended AS appended")
STATE_DAYS = 8  # validate rejects events older than 7 days


def plan(addresses: Addresses) -> Plan:
    return Plan(
        tables=[
            source("events", USER_EVENTS_VALID, addresses, FlinkGroup.TILES, computed=_CLOCK),
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
        options={
            "pipeline.object-reuse": "true",
            "table.exec.state.ttl": f"{STATE_DAYS} d",
            "table.exec.mini-batch.enabled": "true",
            "table.exec.mini-batch.allow-latency": "1 ms",
            "table.exec.mini-batch.size": "20000",
            "pipeline.auto-watermark-interval": f"{BATCH_MS} ms",
            "table.exec.source.idle-timeout": f"{BATCH_MS} ms",
        },
    )


def _changes(into: str, view: str, record: str) -> str:
    """Each new state of a tile as a separate record: the sink appends, and readers choose by `n`."""
    columns = ", ".join(field["name"] for field in avro.schema(record)["fields"])
    changes = f"TO_CHANGELOG(input => TABLE {view}, op_mapping => MAP['INSERT, UPDATE_AFTER', 'U'])"
    return f"INSERT INTO {into} SELECT {columns} FROM {changes}"
