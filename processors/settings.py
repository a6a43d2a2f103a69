"""Settings of the processors, read once."""

from __future__ import annotations

from dataclasses import dataclass

from streams.kafka.config import GroupProtocol
from streams.process.settings import setting


@dataclass(frozen=True)
class GroupSettings:
    """What every loop of ours that is no inference worker is told of its surroundings."""

    bootstrap: str = setting("127.0.0.1:9092", "address of the Kafka broker")
    registry: str = setting("http://127.0.0.1:8081", "address of the schema registry (Confluent API)")
    group_protocol: GroupProtocol = setting(
        GroupProtocol.CLASSIC, "classic, cooperative, or consumer (KIP-848); the same for all of a group"
    )
    session_timeout_ms: int = setting(
        10_000, "after this long without a heartbeat the group goes on without the process", 1_000, 1_800_000
    )
    transaction_timeout_ms: int = setting(15_000, "after this long the broker aborts an open transaction", 1_000, 900_000)
    log_json: bool = setting(True, "logs as JSON lines; false for columns")


@dataclass(frozen=True)
class ProcessorSettings(GroupSettings):
    remove_at: str = setting(
        "default=0.95 self_harm=never image:default=never video:default=never",
        "by category, the probability from which a flagged item is removed without a person",
    )
    review_unjudged: bool = setting(True, "whether an item with a part that could not be judged is reviewed")
    blob_roots: str = setting("", "roots of claim checks; the first is kept clean")
    dedupe_s: int = setting(900, "an event whose id came in so many seconds before is a repeat", 0, 86_400)
    replay_days: int = setting(366, "so many days back may a replay's header put an event; 0 refuses the header", 0, 3_650)
