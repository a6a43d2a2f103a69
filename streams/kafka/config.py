"""All librdkafka settings that Millrace sets, with their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class GroupProtocol(Enum):
    """How a group shares its partitions. CLASSIC: all members stop for a rebalance (eager, range). COOPERATIVE: members give up
    only the partitions that move (KIP-429). CONSUMER: the broker assigns partitions (KIP-848). All members of a group use the
    same."""

    CLASSIC = "classic"
    COOPERATIVE = "cooperative"
    CONSUMER = "consumer"


@dataclass(frozen=True, kw_only=True)
class KafkaAddress:
    """The broker's address, and the timeouts and protocol of a group member. instance: name of a static member
    (KIP-345), which gets its partitions back at once after a restart and fences another member of the same name."""

    bootstrap: str
    protocol: GroupProtocol = GroupProtocol.CLASSIC
    session_timeout_ms: int = 10_000
    max_poll_interval_ms: int = 300_000
    transaction_timeout_ms: int = 15_000
    max_message_bytes: int = 2 * 1024 * 1024
    instance: str = ""


_ASSIGNORS = {GroupProtocol.CLASSIC: "range", GroupProtocol.COOPERATIVE: "cooperative-sticky"}


def _common(address: KafkaAddress) -> dict[str, Any]:
    return {
        "bootstrap.servers": address.bootstrap,
        "log_level": 2,  # errors arrive as events, which we log
        "socket.nagle.disable": True,
        "reconnect.backoff.max.ms": 2_000,
    }


def consumer_config(address: KafkaAddress, group: str) -> dict[str, Any]:
    config = _common(address) | {
        "group.id": group,
        "enable.auto.commit": False,  # the loop commits, with the results
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",  # the loop seeks; a gap left by retention is reported, never skipped silently
        "isolation.level": "read_committed",
        "enable.partition.eof": True,  # reports the end after markers and aborted records, for `KafkaSource.unread`
        "fetch.wait.max.ms": 100,
        "fetch.queue.backoff.ms": 20,
        "fetch.message.max.bytes": address.max_message_bytes,
        "queued.max.messages.kbytes": 32 * 1024,  # bounds memory per consumer
        "max.poll.interval.ms": address.max_poll_interval_ms,
        "group.protocol": "consumer" if address.protocol is GroupProtocol.CONSUMER else "classic",
    }
    if address.instance:
        config["group.instance.id"] = address.instance
    if address.protocol is not GroupProtocol.CONSUMER:
        config |= {
            "session.timeout.ms": address.session_timeout_ms,
            "heartbeat.interval.ms": max(100, address.session_timeout_ms // 4),
            "partition.assignment.strategy": _ASSIGNORS[address.protocol],
        }
    return config


def producer_config(address: KafkaAddress, transactional_id: str | None, linger_ms: float = 0) -> dict[str, Any]:
    """linger_ms: without transactions, how long the first record of a request waits for others."""
    config = _common(address) | {
        "enable.idempotence": True,
        "partitioner": "murmur2_random",  # as in Java's client; librdkafka's own default would break order and joins
        "message.max.bytes": address.max_message_bytes,
        "queue.buffering.max.kbytes": 64 * 1024,  # bounds memory; produce() waits when it is full
        "queue.buffering.max.messages": 200_000,
        "delivery.timeout.ms": 30_000 if transactional_id is None else address.transaction_timeout_ms - 1_000,
        "delivery.report.only.error": True,
        "retry.backoff.ms": 5,  # for a transaction that starts while the last one is still ending (KAFKA-5477)
        "retry.backoff.max.ms": 200,
        "compression.type": "none",
    }
    if transactional_id is None:
        return config | {"linger.ms": linger_ms}
    return config | {
        "linger.ms": 5,  # adds no latency, because the flush before the commit ends the wait
        "transactional.id": transactional_id,
        "transaction.timeout.ms": address.transaction_timeout_ms,
    }


def broadcast_config(address: KafkaAddress) -> dict[str, Any]:
    """The settings of a reader outside any group. The client still requires a group id; this one is never joined or committed."""
    return _common(address) | {
        "group.id": "millrace-broadcast-placeholder",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 100,
        "enable.partition.eof": True,
        "fetch.message.max.bytes": address.max_message_bytes,
    }


def offsets_config(address: KafkaAddress, group: str) -> dict[str, Any]:
    """The settings of a consumer that reads and commits a group's offsets but never joins the group. Uses str(group), because the
    client accepts no subclass of str, and the names of Flink's groups are one."""
    return broadcast_config(address) | {"group.id": str(group)}
