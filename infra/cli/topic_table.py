"""`./millrace topics`: every topic of the catalogue with its records, lag and guarantee."""

from __future__ import annotations

from typing import Any

from infra import console
from infra.behind import lags
from infra.provision import provision, specs
from infra.running import addresses
from infra.settings import StackSettings
from schemas.catalogue import catalogue
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry
from streams.terminal_text import as_json as json_line


def topics(settings: StackSettings, make: bool, as_json: bool) -> None:
    """make: create missing topics and register missing schemas first."""
    address, registry = addresses(settings)
    if make:
        _provision(KafkaAdmin(address), registry)
    rows = _rows(address)
    if as_json:
        for row in rows:
            print(json_line(row), flush=True)
        return
    console.table(
        "topics  [dim](offsets count the markers of transactions too, lag does not)[/]",
        ("topic", "partitions", "offsets", "lag", "guarantee", "written by", "read by"),
        [
            (
                row["topic"],
                str(row["partitions"]),
                str(row["offsets"]),
                ", ".join(f"{n} ({g})" for g, n in row["lag"].items()),
                row["guarantee"],
                ", ".join(row["writers"]),
                ", ".join(row["readers"]),
            )
            for row in rows
        ],
        right=("partitions", "offsets", "lag"),
    )


def _provision(admin: KafkaAdmin, registry: Registry) -> None:
    done = provision(admin, registry)
    console.err.print(
        f"created {len(done.created_topics)} topics, added partitions to {len(done.grown_topics)}, "
        f"registered {len(done.registered)} schemas"
    )
    for difference in done.differences:
        console.err.print(f"[yellow]![/] {console.escape(difference)}")


def _rows(address: KafkaAddress) -> list[dict[str, Any]]:
    """lag: records behind by consumer group, for groups that have committed an offset there."""
    admin, topics = KafkaAdmin(address), {topic.name: topic for topic in catalogue().topics}
    partitions, expected = admin.partitions(), specs()
    places = [(spec.name, number) for spec in expected for number in range(partitions.get(spec.name, 0))]
    ends, firsts = admin.ends(places), admin.firsts(places)
    lags_by_group = lags(address, [consumption.group for consumption in catalogue().consumptions], places)
    rows: list[dict[str, Any]] = []
    for spec in expected:
        own = [place for place in places if place[0] == spec.name]
        topic = topics.get(spec.name)
        rows.append(
            {
                "topic": spec.name,
                "partitions": partitions.get(spec.name, 0),
                "offsets": sum(ends[place] - firsts[place] for place in own),
                "lag": {group: sum(lag[place] for place in own) for group, lag in lags_by_group.items() if own and own[0] in lag},
                "guarantee": topic.guarantee.value if topic else "exactly once",
                "writers": topic.writers if topic else ("loop",),
                "readers": topic.readers if topic else ("loop", "operator"),
            }
        )
    return rows
