"""The echo group on real Kafka: the same loops, topics of the test's own, and the records that readers see."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from schemas.topic_kinds import Consumption, Record, Topic
from streams.broker import Sink
from streams.clock import SystemClock
from streams.daemon_thread import DaemonThread
from streams.kafka.admin import KafkaAdmin, TopicSpec
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource
from streams.loop.batching import Batcher, BatchLimits, CostLine
from streams.loop.limits import Delivery, LoopLimits
from streams.loop.loop import Loop
from streams.loop.step import BatchStep
from streams.metrics import Metrics
from streams.rows import OutRecords, Polled
from streams.sinks_in_turn import sink_of_loop
from tests.support.echo import Echo, requests
from tests.support.ledger import End, Key, dead_key, problems


class RealEchoGroup:
    """One group on topics of its own. The test runs the loops, in turn or each on a thread."""

    def __init__(self, address: KafkaAddress, partitions: int = 4) -> None:
        name = f"echo-{uuid.uuid4().hex[:8]}"
        self.address, self.partitions, self.clock = address, partitions, SystemClock()
        topic: Topic[Record] = replace(requests(partitions=partitions), name=f"{name}-requests-v1")
        self.results_topic = f"{name}-results-v1"
        self.consumption = Consumption(topic=topic, group=name, retry_delays_ms=(200, 400))
        names = (topic.name, self.results_topic, self.consumption.dead_letter_topic, *self.consumption.retry_topics())
        self.admin = KafkaAdmin(address)
        self.admin.create([TopicSpec(n, partitions, {"message.timestamp.type": "LogAppendTime"}) for n in names])
        self.plain = KafkaSink(address, None)
        self.sent = 0

    def loop(
        self,
        echo: Echo,
        slot: int = 0,
        delivery: Delivery = Delivery.EXACTLY_ONCE,
        sink: Callable[[Sink], Sink] = lambda sink: sink,
        **limits: int | float,
    ) -> Loop:
        """A member of the group from now on, so it must run at once. sink: wraps the loop's own."""
        line, group, metrics = CostLine(), self.consumption.group, Metrics()
        transactional_id = f"{group}-{slot}" if delivery is Delivery.EXACTLY_ONCE else None
        echo.results_topic = self.results_topic
        made = Loop(
            consumption=self.consumption,
            source=KafkaSource(self.address, group, metrics),
            sink=sink(sink_of_loop(partial(KafkaSink, self.address), transactional_id)),
            step=BatchStep(echo, self.clock, line),
            batcher=Batcher(BatchLimits(max_rows=8), line),
            clock=self.clock,
            limits=LoopLimits(delivery=delivery, idle_wait_ms=50, **limits),  # type: ignore[arg-type]
            worker=f"echo-{slot}",
            metrics=metrics,
            background=DaemonThread("commit"),
        )
        made.source.subscribe((self.consumption.topic.name, *self.consumption.retry_topics()), made.assignment)
        return made

    def send(self, *values: bytes | None) -> None:
        """Sends the values spread evenly over the partitions."""
        partitions = [(self.sent + i) % self.partitions for i in range(len(values))]
        keys: list[bytes | None] = [str(self.sent + i).encode() for i in range(len(values))]
        self.plain.produce(OutRecords(self.consumption.topic.name, keys, list(values), [[] for _ in values], partitions))
        self.plain.flush(10)
        self.sent += len(values)

    def read(self, topic: str) -> Polled:
        reader = KafkaBroadcast(self.address, topic, self.clock)
        polled = reader.read_to_end(20)
        reader.close()
        return polled

    def ends(self) -> list[End]:
        found = []
        for headers in self.read(self.results_topic).headers:
            named = {name: value.decode() for name, value in headers or ()}
            topic, partition, offset = named["origin"].split("/")
            found.append(End((topic, int(partition), int(offset)), int(named["redrive"]), named["status"]))
        return found

    def problems(self, *, may_repeat: bool = False) -> list[str]:
        asked: list[Key] = [((topic, partition, offset), 0) for (topic, partition), offset in zip(*self._requests(), strict=True)]
        letters = self.read(self.consumption.dead_letter_topic).headers
        dead = [dead_key({name: value.decode() for name, value in headers or ()}) for headers in letters]
        return problems(asked, self.ends(), dead, may_repeat=may_repeat)

    def _requests(self) -> tuple[list[tuple[str, int]], list[int]]:
        polled = self.read(self.consumption.topic.name)
        return polled.places, polled.offsets
