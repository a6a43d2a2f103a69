"""What a loop's producers that take turns rely on, asked of real Kafka (ADR 0025)."""

from __future__ import annotations

import pytest
from confluent_kafka import TopicPartition

from streams.kafka.sink import KafkaSink
from tests.conftest import Servers
from tests.contract.test_broker import OnKafka, group, joined, membership_of, records

pytestmark = pytest.mark.real


def test_offsets_do_not_go_back_when_the_markers_of_a_later_transaction_come_first(servers: Servers) -> None:
    """Which markers are written first is the broker's affair."""
    broker = OnKafka(servers)
    topic, name = broker.topic(1), group()
    plain = broker.sink(name, None)
    plain.produce(records(topic, b"a", b"b", b"c"))
    plain.flush(10)
    source, _ = joined(broker, topic, name)
    producers = []
    for turn in (1, 2):
        sink = KafkaSink(servers.address, f"{name}/{turn}")
        sink.begin()
        producers.append(sink._producer)
        sink._producer.send_offsets_to_transaction([TopicPartition(topic, 0, turn)], membership_of(source), 10)
    for producer in reversed(producers):
        producer.commit_transaction(10)
    assert source.committed([(topic, 0)])[topic, 0].offset == 2
    source.close()
