"""Settings of every member of a consumer group: servers, rebalance protocol, timeouts."""

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
        GroupProtocol.CLASSIC,
        "rebalance protocol: classic, cooperative, or consumer (KIP-848); the same for all members of a group",
    )
    session_timeout_ms: int = setting(
        10_000, "time without a heartbeat after which the group reassigns the process's partitions, ms", 1_000, 1_800_000
    )
    transaction_timeout_ms: int = setting(15_000, "time after which the broker aborts an open transaction, ms", 1_000, 900_000)
    log_json: bool = setting(True, "log JSON lines; false for columns")

    def address(self, instance: str = "") -> KafkaAddress:
        """instance: the name of a static member (KIP-345); empty for a dynamic one."""
        return KafkaAddress(
            bootstrap=self.bootstrap,
            protocol=self.group_protocol,
            session_timeout_ms=self.session_timeout_ms,
            transaction_timeout_ms=self.transaction_timeout_ms,
            instance=instance,
        )
