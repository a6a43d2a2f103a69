"""Reads all records of topics in one process, on real Kafka. Implements `streams.broker.Broadcast`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.errors import BrokerUnavailable
from streams.clock import Clock
from streams.kafka import client_errors
from streams.kafka.config import KafkaAddress, broadcast_config
from streams.kafka.messages import columns
from streams.kafka.source import CALL_LIMIT_S
from streams.rows import Place, Polled


class KafkaBroadcast:
    """Reads from `start`: `first` for all kept records, `end` for records from now on, or given offsets (a place without a given
    offset is read from its first record). partitions: the partitions to read, if not all; only for one topic."""

    def __init__(
        self,
        address: KafkaAddress,
        topics: str | Sequence[str],
        clock: Clock,
        start: str | dict[Place, int] = "first",
        partitions: Iterable[int] | None = None,
        ends: Mapping[Place, int] | None = None,
    ) -> None:
        """ends: the offsets up to which `read_to_end` reads, if not the present end of committed records."""
        names = [topics] if isinstance(topics, str) else list(topics)
        self._topic = ", ".join(names)
        self._clock = clock
        self._consumer = Consumer(broadcast_config(address), logger=None)
        try:
            places: list[Place] = []
            for name in names:
                found = self._consumer.list_topics(name, timeout=CALL_LIMIT_S).topics[name]
                if found.error is not None:
                    raise KafkaException(found.error)
                places += [(name, number) for number in (sorted(found.partitions) if partitions is None else partitions)]
            self._ends: dict[Place, int] = {}
            starts: dict[Place, int] = {}
            for place in places:
                low, high = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=CALL_LIMIT_S)
                self._ends[place] = high
                match start:
                    case "first":
                        starts[place] = low
                    case "end":
                        starts[place] = high
                    case dict():
                        starts[place] = max(low, min(high, start.get(place, low)))
                    case _:
                        raise ValueError(f"start is first, end or offsets, not {start!r}")
            self._ends.update(ends or {})
            self._has_given_ends = bool(ends)
            self._positions = starts
            self._consumer.assign([TopicPartition(t, p, offset) for (t, p), offset in starts.items()])
        except KafkaException as raised:
            self._consumer.close()
            raise client_errors.of_read(raised, f"read {self._topic}") from raised

    def read_to_end(self, limit_s: float) -> Polled:
        gathered = Polled()
        for part in self.parts_to_end(limit_s):
            gathered.extend(part)
        return gathered

    def parts_to_end(self, limit_s: float) -> Iterator[Polled]:
        """All records up to the end at the time of this call, in parts: no more of them are held than the caller keeps. Raises
        BrokerUnavailable."""
        until_s = self._clock.monotonic_s() + limit_s
        if self.at_end() and not self._has_given_ends:
            self._look_for_ends()
        while not self.at_end():
            if self._clock.monotonic_s() > until_s:
                raise BrokerUnavailable(f"{self._topic} was not read to its end in {limit_s:.0f} s")
            part = self._take(0.2)
            if len(part):
                yield part

    def _look_for_ends(self) -> None:
        """The ends may have moved since they were looked for."""
        try:
            for place in self._ends:
                _, self._ends[place] = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=CALL_LIMIT_S)
        except KafkaException as raised:
            raise client_errors.of_read(raised, f"read {self._topic}") from raised

    def at_end(self) -> bool:
        """Whether all records up to the ends were read."""
        return self.has_read(self._ends)

    def has_read(self, ends: Mapping[Place, int]) -> bool:
        """Whether all records before these offsets of its places were returned, or belong to transactions that were aborted."""
        return all(self._positions[place] >= end for place, end in ends.items())

    def poll(self) -> Polled:
        return self._take(0.0)

    def wait(self, wait_s: float) -> Polled:
        """Like `poll`, but waits for a first record."""
        return self._take(wait_s)

    def close(self) -> None:
        self._consumer.close()

    def _take(self, wait_s: float) -> Polled:
        try:
            first = self._consumer.poll(wait_s)
            messages = [] if first is None else [first, *self._consumer.consume(1000, 0)]
        except KafkaException as raised:
            raise client_errors.of_read(raised, f"read {self._topic}") from raised
        good = [message for message in messages if self._is_record(message)]
        polled = columns(good) if good else Polled()
        for place, offset in zip(polled.places, polled.offsets, strict=True):
            # the end may have been reported in the same part; it lies after the transaction markers that follow the last record
            self._positions[place] = max(self._positions[place], offset + 1)
        return polled

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        place = (message.topic() or "", message.partition() or 0)
        if error.code() == KafkaError._PARTITION_EOF:  # this position also lies after transaction markers at the end
            self._positions[place] = max(self._positions[place], message.offset() or 0)
            return False
        if error.code() in client_errors.HARMLESS:
            return False
        raise BrokerUnavailable(f"{self._topic} can no longer be read from where it stood: {error.str()}")
