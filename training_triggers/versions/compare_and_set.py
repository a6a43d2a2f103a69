"""Compare and set on `model-updates-v1`: whoever writes decides on what is written last, or does not write.

All writers share one transactional id, so that one who begins fences all who began before, and ends what they left open (Kafka's
transactions, KIP-98). Begin, read to the end, decide, commit: what was read is still the end where the commit goes through, and who was
fenced reads and decides again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

import structlog

from schemas.codec import SchemaIds
from schemas.errors import BrokerUnavailable, Fenced, TransactionAborted
from schemas.generated import ModelUpdate
from schemas.topics import MODEL_UPDATES
from streams import headers as h
from streams.broker import Broadcast
from streams.clock import Clock
from streams.ids import uuid7
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.readable import Followed, Readable
from streams.record_writer import RecordWriter
from streams.rows import OutRecords, Polled

TRANSACTIONAL_ID = f"{MODEL_UPDATES.name}-writer"
READ_LIMIT_S = 15.0
COMMIT_LIMIT_S = 10.0
TRIES = 8
PAUSE_S = 0.3
Decide = Callable[[list[ModelUpdate]], ModelUpdate | None]


class Writing(Protocol):
    """A transactional producer; a new one fences those before it."""

    def begin(self) -> None: ...
    def produce(self, out: OutRecords) -> None: ...
    def commit_records(self, limit_s: float) -> None: ...
    def close(self) -> None: ...


class Updates:
    """begin: a producer with the writers' transactional id. read: the topic, from the first record."""

    def __init__(
        self, begin: Callable[[], Writing], read: Callable[[], Broadcast], ids: SchemaIds, clock: Clock, writer: str
    ) -> None:
        self._begin, self._read, self._ids, self._clock, self._writer = begin, read, ids, clock, writer
        self._readable = Readable(MODEL_UPDATES, ids, ModelUpdate.from_dict)
        self._log = structlog.get_logger().bind(writer=writer)

    def all(self) -> list[ModelUpdate]:
        """All that were ever written, oldest first. Raises BrokerUnavailable."""
        return self._readable.of(self._whole())

    def _whole(self) -> Polled:
        broadcast = self._read()
        try:
            return broadcast.read_to_end(READ_LIMIT_S)
        finally:
            broadcast.close()

    def change(self, decide: Decide) -> ModelUpdate | None:
        """What `decide` makes of all updates, written as the next one; None where it makes none. It is asked again where somebody else wrote
        meanwhile. Returns when the broker has it. Raises BrokerUnavailable, and what `decide` raises."""
        made: tuple[str, ModelUpdate] | None = None  # with the id of its record
        cause: Exception | None = None
        for number in range(TRIES):
            if number:  # two who fence each other do not keep step
                self._clock.sleep(random.uniform(0.0, PAUSE_S * number))
            sink = self._begin()
            try:
                written = self._whole()
                if made is not None and any((h.CE_ID, made[0].encode()) in (headers or ()) for headers in written.headers):
                    return made[1]  # the answer to its commit was lost
                update = decide(self._readable.of(written))
                if update is None:
                    return None
                made = uuid7(update.decided_ms), update
                sink.begin()
                sink.produce(self._record(*made))
                sink.commit_records(COMMIT_LIMIT_S)
                return update
            except (Fenced, TransactionAborted) as error:
                cause = error
                self._log.info("somebody else wrote, or the broker did not answer: read and decided again", cause=str(error))
            finally:
                sink.close()
        raise BrokerUnavailable(f"{MODEL_UPDATES.name} was not written in {TRIES} tries: {cause}")

    def _record(self, record_id: str, update: ModelUpdate) -> OutRecords:
        return RecordWriter(MODEL_UPDATES, self._ids, self._writer).of(update, update.model, record_id)


def on_kafka(address: KafkaAddress, ids: SchemaIds, clock: Clock, writer: str) -> Updates:
    return Updates(
        lambda: KafkaSink(address, TRANSACTIONAL_ID),
        lambda: KafkaBroadcast(address, MODEL_UPDATES.name, clock),
        ids,
        clock,
        writer,
    )


def followed(broadcast: Broadcast, ids: SchemaIds) -> Followed[ModelUpdate]:
    """The updates as they come. What is none is passed over: it must not bar the way back to the version before."""
    return Followed(broadcast, Readable(MODEL_UPDATES, ids, ModelUpdate.from_dict))
