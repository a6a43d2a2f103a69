"""Writing records outside any loop: once, by commands."""

from __future__ import annotations

from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.rows import OutRecords

WRITE_LIMIT_S = 20.0


def write(address: KafkaAddress, records: OutRecords, limit_s: float = WRITE_LIMIT_S) -> None:
    """Returns when the broker has them; at least once. Raises BrokerUnavailable, TransactionAborted where it refuses them."""
    sink = KafkaSink(address, None)
    try:
        sink.produce(records)
        sink.flush(limit_s)
    finally:
        sink.close()
