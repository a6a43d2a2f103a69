"""Writes records outside any loop, for commands."""

from __future__ import annotations

from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords

WRITE_LIMIT_S = 20.0


def write(address: KafkaAddress, records: OutRecords, limit_s: float = WRITE_LIMIT_S) -> None:
    """Write records at least once and wait until the broker has them. Raises BrokerUnavailable, TransactionAborted if it
    refuses."""
    sink = KafkaSink(address, None)
    try:
        sink.produce(records)
        sink.flush(limit_s)
    finally:
        sink.close()
