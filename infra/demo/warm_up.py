"""Small transactions on a topic of their own, so that what is slow once is over before somebody waits for an answer.

A broker that was just started has not compiled its code for transactions yet: answers of the first second took 200 ms, and 100 after
this. And a new idempotent producer sends nothing for half a second or a whole one: it asks for its id before it is connected, and again
after 500 ms (`rd_kafka_idemp_pid_fsm` of librdkafka 2.16)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing

from streams import headers as h
from streams.broker import Commit, Listener, Sink, Source
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.kafka.admin import KafkaAdmin, TopicSpec
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource
from streams.metrics import Metrics
from streams.rows import OutRecords, Place
from streams.sinks_in_turn import sink_of_loop

NAME = "millrace-warm-up"  # how the topics begin
TRANSACTIONS = 250
LIMIT_S = 5.0
COMMIT_LIMIT_S = 5.0


class _FromStart(Listener):
    def __init__(self, source: Source) -> None:
        self._source = source

    def assigned(self, places: Sequence[Place]) -> None:
        self._source.seek(dict.fromkeys(places, 0))

    def revoked(self, places: Sequence[Place], *, lost: bool) -> None: ...


def warm_up(address: KafkaAddress, sender: Sink) -> int:
    """Send by `sender`, read and answer as a worker does, for TRANSACTIONS transactions or LIMIT_S. Returns the number of
    transactions. The topic is deleted afterwards. Topic, group and transactional ids are of this call: another one at the same time
    neither fences it nor deletes its topic.

    Raises BrokerUnavailable, TransactionAborted, Fenced."""
    admin, name = KafkaAdmin(address), f"{NAME}-{uuid7(SystemClock().now_ms())}"
    admin.create([TopicSpec(name, 3, {})])
    try:
        with closing(KafkaSource(address, name, Metrics())) as source, closing(_sink(address, name)) as sink:
            done = _answer(sender, source, sink, name)
        sender.flush(COMMIT_LIMIT_S)  # a record that waits for a deleted topic would hold up others
    finally:
        admin.delete([name])
    return done


def _sink(address: KafkaAddress, name: str) -> Sink:
    return sink_of_loop(lambda transactional_id: KafkaSink(address, transactional_id), name)


def _answer(sender: Sink, source: Source, sink: Sink, name: str) -> int:
    source.subscribe([name], _FromStart(source))
    done, until_s = 0, time.monotonic() + LIMIT_S
    while done < TRANSACTIONS and time.monotonic() < until_s:
        sender.produce(_records(name, [0]))
        polled = source.poll(max_records=100, wait_s=0.1)
        if polled.membership is not None:
            sink.begin()
            sink.produce(_records(name, [1, 2]))
            read = {place: Commit(offset + 1) for place, offset in zip(polled.places, polled.offsets, strict=True)}
            sink.commit(read, polled.membership, COMMIT_LIMIT_S)
            done += 1
    return done


def _records(name: str, partitions: list[int]) -> OutRecords:
    count = len(partitions)
    return OutRecords(
        name, [b"key"] * count, [b"x" * 300] * count, h.cloud_event(["warm-up"] * count, "warm_up", NAME), partitions
    )
