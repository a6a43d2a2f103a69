"""Settings that every member of a consumer group has: servers, group protocol, time-outs."""

from __future__ import annotations

from dataclasses import dataclass

from streams.kafka.config import GroupProtocol, KafkaAddress
from streams.process.settings import setting


@dataclass(frozen=True)
class GroupSettings:
    """Settings of every process that runs loops."""

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

    def address(self, instance: str = "") -> KafkaAddress:
        """instance: the name of a static member (KIP-345); empty for a dynamic one."""
        return KafkaAddress(
            bootstrap=self.bootstrap,
            protocol=self.group_protocol,
            session_timeout_ms=self.session_timeout_ms,
            transaction_timeout_ms=self.transaction_timeout_ms,
            instance=instance,
        )
