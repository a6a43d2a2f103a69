"""`./millrace features list | freshness`: the features, and how far behind each step from an event to a readable value is."""

from __future__ import annotations

import json
from typing import Any

from infra import console, metrics_page
from infra.behind import lags
from infra.cli.process_table import last_statuses
from infra.feature_steps import STEPS
from infra.running import addresses
from infra.settings import StackSettings
from schemas.features import ONLINE_VIEWS
from schemas.topic_kinds import Record, Topic
from schemas.topics import ITEM_SINK, RECENT_SINK, USER_SINK
from streams.kafka.config import KafkaAddress

SINKS = (USER_SINK.group, ITEM_SINK.group, RECENT_SINK.group)


def show(as_json: bool) -> None:
    rows = [(view, feature) for view in ONLINE_VIEWS for feature in view.features]
    if as_json:
        for view, feature in rows:
            about = {"view": view.name, "entity": view.entity, "feature": feature.name, "type": feature.kind.value}
            print(json.dumps(about | {"default": feature.default, "meaning": feature.meaning, "ttl_s": view.ttl_ms // 1000}))
        return
    console.table(
        "features",
        ("view", "feature", "type", "default", "meaning"),
        [(view.name, feature.name, feature.kind.value, repr(feature.default), feature.meaning) for view, feature in rows],
    )


def freshness(settings: StackSettings, as_json: bool) -> None:
    address, _ = addresses(settings)
    steps = [{"step": step, "topic": topic.name, "lag_records": lag(address, group, topic)} for step, group, topic in STEPS]
    ages = [
        {"sink": name, **(quantiles(status["metrics_address"]) or {})}
        for name, status in sorted(last_statuses(settings).items())
        if status["task"] in SINKS
    ]
    if as_json:
        print(json.dumps({"steps": steps, "sinks": ages}))
        return
    console.table(
        "records behind",
        ("step", "topic", "records behind"),
        [
            (
                str(step["step"]),
                str(step["topic"]),
                "nothing committed yet" if step["lag_records"] is None else str(step["lag_records"]),
            )
            for step in steps
        ],
        right=("records behind",),
    )
    columns = ("sink", "p50 at most", "p99 at most", "values", "refused", "not storable")
    console.table(
        "time from a tile, or a recent event, to its value in the store",
        columns,
        [
            (
                age["sink"],
                *(f"{1000 * age[q]:.0f} ms" if age.get(q) is not None else "-" for q in ("p50_s", "p99_s")),
                *(str(age.get(name, 0)) for name in ("n", "refused", "impossible")),
            )
            for age in ages
        ],
        right=columns[1:],
    )


def lag(address: KafkaAddress, group: str, topic: Topic[Record]) -> int | None:
    """Records between the group's committed offsets and the end; None if it has committed nothing."""
    behind = lags(address, [group], [(topic.name, number) for number in range(topic.partitions)])[group]
    return sum(behind.values()) if behind else None


def quantiles(metrics_address: str) -> dict[str, Any] | None:
    """Since the sink started: upper bounds of p50 and p99 from its histogram's buckets, and the number of values that the
    store refused because it had newer ones, or could not store. None if the sink does not answer."""
    page = metrics_page.page(metrics_address, limit_s=3.0)
    if page is None:
        return None
    not_written = {name: int(page.numbers.get(f"blobs_{name}", 0)) for name in ("refused", "impossible")}
    buckets = page.buckets.get("freshness_seconds", [])
    if not buckets or not buckets[-1][1]:
        return {"n": 0, **not_written}
    n = buckets[-1][1]

    def bound(share: float) -> float | None:
        edge = next(edge for edge, count in buckets if count >= share * n)
        return edge if edge != float("inf") else None

    return {"n": int(n), "p50_s": bound(0.5), "p99_s": bound(0.99), **not_written}
