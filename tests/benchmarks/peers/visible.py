"""The results that a read_committed reader can see: where they end while a program runs, and afterwards each of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.local.processes import ProcessFailed
from schemas.errors import BrokerUnavailable
from streams.clock import SystemClock
from streams.headers import HeaderList
from streams.kafka import client_errors
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress, broadcast_config
from tests.benchmarks.peers.tally import Tally

POLL_S = 0.02
START_LIMIT_S = 120.0  # until the first result
STALL_S = 30.0  # without a further result
RUN_LIMIT_S = 240.0
READ_LIMIT_S = 120.0
SETTLE_LIMIT_S, SETTLE_POLL_S = 90.0, 0.2
CALL_LIMIT_S = 10.0

Answer = Callable[[bytes | None, bytes, HeaderList], tuple[str, bytes]]  # request id and logits, from key, value and headers


@dataclass(frozen=True)
class Mark:
    """A look at a running program. end: offset after the last visible result. cpu_s: of the program's processes since their
    start."""

    at_s: float
    end: int
    cpu_s: float


class Results:
    """One partition of results, read from its present end on."""

    def __init__(self, bootstrap: str, topic: str, answer_in: Answer) -> None:
        self._address, self._place, self._answer_in = KafkaAddress(bootstrap=bootstrap), (topic, 0), answer_in
        self._consumer = Consumer(broadcast_config(self._address), logger=None)
        self.start_here()

    def start_here(self) -> None:
        self.start = self._position = self.end()

    def end(self) -> int:
        """The end of what a read_committed reader may read now. Raises BrokerUnavailable after CALL_LIMIT_S."""
        try:
            offsets: Any = self._consumer.get_watermark_offsets(TopicPartition(*self._place), timeout=CALL_LIMIT_S)
        except KafkaException as raised:
            raise client_errors.of_read(raised, f"find the end of {self._place[0]}") from raised
        return int(offsets[1])

    def read(self, tally: Tally) -> None:
        """Read what has become visible since the last call. Raises BrokerUnavailable after READ_LIMIT_S."""
        if self.end() <= self._position:
            return
        reader = KafkaBroadcast(self._address, self._place[0], SystemClock(), {self._place: self._position})
        until_s = time.perf_counter() + READ_LIMIT_S
        try:
            while not reader.at_end():
                if time.perf_counter() > until_s:
                    raise BrokerUnavailable(f"{self._place[0]} was not read to its end in {READ_LIMIT_S:.0f} s")
                polled = reader.wait(0.2)
                columns = zip(polled.keys, polled.values, polled.headers, polled.offsets, strict=True)
                for key, value, headers, offset in columns:
                    tally.take(*self._answer_in(key, value or b"", headers or []), offset)
                    self._position = offset + 1
        finally:
            reader.close()

    def read_all(self, tally: Tally) -> None:
        """Read on until each expected request has a result, or until nothing more has come for STALL_S."""
        until_s = time.perf_counter() + RUN_LIMIT_S
        while True:
            self.read(tally)
            read_s, end = time.perf_counter(), self.end()
            if not tally.lost or read_s > until_s:
                return
            while self.end() == end:
                if time.perf_counter() - read_s > STALL_S:
                    return
                time.sleep(POLL_S)

    def settle(self) -> None:
        """Wait until no transaction is open, which a stopped program may have left: until the broker ends it, later results are
        not visible. Raises BrokerUnavailable after SETTLE_LIMIT_S."""
        admin, until_s = KafkaAdmin(self._address), time.perf_counter() + SETTLE_LIMIT_S
        while self.end() < admin.ends([self._place])[self._place]:
            if time.perf_counter() > until_s:
                raise BrokerUnavailable(f"a transaction on {self._place[0]} is still open after {SETTLE_LIMIT_S:.0f} s")
            time.sleep(SETTLE_POLL_S)

    def close(self) -> None:
        self._consumer.close()


def watch(
    end: Callable[[], int], cpu_s: Callable[[], float], running: Callable[[], bool], start: int, count: int
) -> tuple[Mark, Mark]:
    """The first visible result, and the moment when `count` offsets were visible or, after STALL_S without a result, the last one.
    Raises ProcessFailed if the program ends, has no result after START_LIMIT_S, or is not done after RUN_LIMIT_S."""
    begun_s = moved_s = time.perf_counter()
    moved_end, first = start, None
    while True:
        now_end, now_s = end(), time.perf_counter()
        if now_end > moved_end:
            moved_s, moved_end = now_s, now_end
            first = first or Mark(now_s, now_end, cpu_s())
        if first and (now_end >= start + count or now_s - moved_s > STALL_S):
            return first, Mark(moved_s, moved_end, cpu_s())
        if first is None and now_s - begun_s > START_LIMIT_S:
            raise ProcessFailed(f"no result became visible in {START_LIMIT_S:.0f} s")
        if now_s - begun_s > RUN_LIMIT_S:
            raise ProcessFailed(f"{now_end - start} of {count} results were visible after {RUN_LIMIT_S:.0f} s")
        if not running():
            raise ProcessFailed(f"the program ended after {now_end - start} of {count} results")
        time.sleep(POLL_S)
