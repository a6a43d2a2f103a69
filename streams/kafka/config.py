"""librdkafka settings, each for a reason. The only settings of the client that Millrace sets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class GroupProtocol(Enum):
    """How a group shares its partitions. CLASSIC: all stop for a change (eager, range). COOPERATIVE: only what moves is given up
    (KIP-429). CONSUMER: the broker assigns (KIP-848). The members of a group have the same."""

    CLASSIC = "classic"
    COOPERATIVE = "cooperative"
    CONSUMER = "consumer"


@dataclass(frozen=True, kw_only=True)
class KafkaAddress:
    """Where the broker is, and how a member of a group lives there. instance: of a static member
    (KIP-345), which has its partitions again at once after a restart, and fences another of the same name."""

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
        "log_level": 2,  # what goes wrong comes as events, and is logged by us
        "socket.nagle.disable": True,
        "reconnect.backoff.max.ms": 2_000,
    }


def consumer_config(address: KafkaAddress, group: str) -> dict[str, Any]:
    config = _common(address) | {
        "group.id": group,
        "enable.auto.commit": False,  # the loop commits, with the results
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",  # the loop seeks; a gap made by retention is reported, never skipped silently
        "isolation.level": "read_committed",
        "enable.partition.eof": True,  # tells where the end is, behind markers and aborted records: `KafkaSource.unread`
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


def producer_config(address: KafkaAddress, transactional_id: str | None) -> dict[str, Any]:
    config = _common(address) | {
        "enable.idempotence": True,
        "partitioner": "murmur2_random",  # Java's; librdkafka's own default would break order and joins
        "message.max.bytes": address.max_message_bytes,
        "queue.buffering.max.kbytes": 64 * 1024,  # bounds memory; produce() waits when it is full
        "queue.buffering.max.messages": 200_000,
        "delivery.timeout.ms": 30_000 if transactional_id is None else address.transaction_timeout_ms - 1_000,
        "delivery.report.only.error": True,
        "retry.backoff.ms": 5,  # of transactions that meet the end of the last one (KAFKA-5477)
        "retry.backoff.max.ms": 200,
        "compression.type": "none",
    }
    if transactional_id is None:
        return config | {"linger.ms": 0}
    return config | {
        "linger.ms": 5,  # costs no latency: the flush before the commit ends it
        "transactional.id": transactional_id,
        "transaction.timeout.ms": address.transaction_timeout_ms,
    }


def broadcast_config(address: KafkaAddress) -> dict[str, Any]:
    """A reader outside any group. The client wants a group id all the same: this one is never joined or committed."""
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
