"""A processor for tests of the loop: answers each record with its own value, and fails if the value asks for a failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from schemas.errors import InvalidRequest, RetryLater
from schemas.topic_kinds import Compatibility, Consumption, Guarantee, Order, Record, Topic
from streams import headers as h
from streams.broker import Sink
from streams.clock import ManualClock
from streams.daemon_thread import Background
from streams.loop.batching import Batcher, BatchLimits, CostLine
from streams.loop.limits import Delivery, LoopLimits
from streams.loop.loop import Loop
from streams.loop.outcome import Emit, Outcome
from streams.loop.processor import Processor
from streams.loop.quarantine import Quarantine
from streams.loop.step import BatchStep, Process
from streams.memory.cluster import Entry, MemoryBroker
from streams.memory.endpoints import MemorySink, MemorySource
from streams.metrics import Metrics
from streams.rows import OutRecords, Rows
from streams.sinks_in_turn import sink_of_loop
from tests.support.background import AtOnce

RESULTS = "echo-results-v1"


def requests(order: Order = Order.RELAXED, partitions: int = 4) -> Topic[Record]:
    return Topic(
        name="echo-requests-v1",
        record=None,
        key="any",
        partitions=partitions,
        retention_ms=-1,
        guarantee=Guarantee.NONE,
        compatibility=Compatibility.FULL_TRANSITIVE,
        owner="tests",
        writers=("tests",),
        readers=("tests",),
        order=order,
        max_record_bytes=10_000,
    )


def consumption(order: Order = Order.RELAXED, partitions: int = 4) -> Consumption:
    return Consumption(topic=requests(order, partitions), group="echo", retry_delays_ms=(1_000, 10_000))


def result(rows: Rows, status: str, values: list[bytes | None], topic: str = RESULTS) -> list[OutRecords]:
    headers = [
        [("status", status.encode()), ("origin", "/".join(map(str, origin)).encode()), ("redrive", str(redrive).encode())]
        for origin, redrive in zip(rows.origins, rows.redrives, strict=True)
    ]
    return [OutRecords(topic, rows.keys, values, headers)]


class Echo(Processor):
    """`poison` in a value fails the batch, `invalid` is refused, `later` asks for a retry until `mended`."""

    def __init__(self) -> None:
        self.results_topic = RESULTS
        self.batches: list[int] = []
        self.mended = False
        self.later_fails: Callable[[], bool] = lambda: not self.mended
        self.on_batch: Callable[[Rows], None] = lambda rows: None

    def process(self, rows: Rows) -> list[Outcome]:
        self.batches.append(len(rows))
        self.on_batch(rows)
        for value in rows.values:
            if value is not None and b"poison" in value:
                raise ValueError("poison in the batch")
            if value is not None and b"invalid" in value:
                raise InvalidRequest("this asks for nothing")
            if value is not None and b"later" in value and self.later_fails():
                raise RetryLater("the store does not answer")
        return [Emit(rows, result(rows, "ok", rows.values, self.results_topic))]

    def answer(self, rows: Rows, status: str, code: str, message: str) -> list[OutRecords]:
        return result(rows, status, [f"{code}: {message}".encode()] * len(rows), self.results_topic)


class Function(Processor):
    """A processor made of a function."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def process(self, rows: Rows) -> list[Outcome]:
        return self._process(rows)


class EchoGroup:
    """An in-memory broker with the echo topics, and as many loops on it as a test wants."""

    def __init__(self, order: Order = Order.RELAXED, partitions: int = 4) -> None:
        self.clock = ManualClock()
        self.broker = MemoryBroker(self.clock)
        self.consumption = consumption(order, partitions)
        for name in (self.consumption.topic.name, RESULTS, self.consumption.dead_letter_topic, *self.consumption.retry_topics()):
            self.broker.create(name, partitions)

    def loop(
        self,
        echo: Echo,
        slot: int = 0,
        delivery: Delivery = Delivery.EXACTLY_ONCE,
        sink: Callable[[Sink], Sink] = lambda sink: sink,
        quarantine: Quarantine | None = None,
        max_wait_ms: float = 0.0,
        background: Background | None = None,
        **limits: int | float,
    ) -> Loop:
        """sink: wraps the loop's own. max_wait_ms: how long a batch waits for more records. background: runs its commits."""
        transactional_id = f"echo-{slot}" if delivery is Delivery.EXACTLY_ONCE else None
        line = CostLine()
        made = Loop(
            consumption=self.consumption,
            source=MemorySource(self.broker, "echo"),
            sink=sink(sink_of_loop(partial(MemorySink, self.broker, "echo"), transactional_id)),
            step=BatchStep(echo, self.clock, line),
            batcher=Batcher(BatchLimits(max_rows=8, max_wait_ms=max_wait_ms), line),
            clock=self.clock,
            limits=LoopLimits(delivery=delivery, **limits),  # type: ignore[arg-type]
            worker=f"echo-{slot}",
            metrics=Metrics(),
            background=background or AtOnce(),
            quarantine=quarantine,
        )
        made.source.subscribe((self.consumption.topic.name, *self.consumption.retry_topics()), made.assignment)
        return made

    def send(self, *values: bytes | None, partition: int = -1, headers: list[tuple[str, bytes]] | None = None) -> None:
        keys: list[bytes | None] = [f"k{i}".encode() for i in range(len(values))]
        records = OutRecords(
            self.consumption.topic.name, keys, list(values), [list(headers or []) for _ in values], [partition] * len(values)
        )
        self.broker.append(records, None)

    def retry(self, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        """Write a record as if a loop had deferred it."""
        self.broker.append(OutRecords(self.consumption.retry_topics()[0], [b"k"], [value], [headers], [0]), None)

    def results(self) -> list[tuple[str, str, bytes | None]]:
        """(status, origin, value) of each result that a read_committed reader sees."""
        return [
            (dict(e.headers)["status"].decode(), dict(e.headers)["origin"].decode(), e.value)
            for _, _, e in self.broker.records(RESULTS)
        ]

    def dead(self) -> list[Entry]:
        return [entry for _, _, entry in self.broker.records(self.consumption.dead_letter_topic)]


def settle(*loops: Loop, passes: int = 12) -> None:
    """Run the loops in turn until all records have been read."""
    for _ in range(passes):
        for loop in loops:
            loop.run_once()


def statuses(world: EchoGroup) -> Counter[str]:
    return Counter(status for status, _, _ in world.results())


def once(world: EchoGroup) -> bool:
    return len({origin for _, origin, _ in world.results()}) == len(world.results())


def codes(world: EchoGroup) -> Counter[bytes]:
    return Counter(dict(entry.headers)[h.ERROR_CODE] for entry in world.dead())
