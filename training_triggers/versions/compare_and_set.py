"""Compare and set on `model-updates-v1`: a writer decides on the newest written state, or does not write.

All writers share one transactional id, so a writer that begins fences all earlier writers, and ends their open transactions
(Kafka's transactions, KIP-98). A writer begins, reads to the end, decides and commits. If the commit succeeds, what it read is
still the end; a fenced writer reads and decides again.
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
    """A transactional producer; a new one fences the earlier ones."""

    def begin(self) -> None: ...
    def produce(self, out: OutRecords) -> None: ...
    def commit_records(self, limit_s: float) -> None: ...
    def close(self) -> None: ...


class Updates:
    """begin: returns a producer with the writers' transactional id. read: returns the topic, from the first record."""

    def __init__(
        self, begin: Callable[[], Writing], read: Callable[[], Broadcast], ids: SchemaIds, clock: Clock, writer: str
    ) -> None:
        self._begin, self._read, self._ids, self._clock, self._writer = begin, read, ids, clock, writer
        self._readable = Readable(MODEL_UPDATES, ids, ModelUpdate.from_dict)
        self._log = structlog.get_logger().bind(writer=writer)

    def all(self) -> list[ModelUpdate]:
        """All updates ever written, oldest first. Raises BrokerUnavailable."""
        return self._readable.of(self._whole())

    def _whole(self) -> Polled:
        broadcast = self._read()
        try:
            return broadcast.read_to_end(READ_LIMIT_S)
        finally:
            broadcast.close()

    def change(self, decide: Decide) -> ModelUpdate | None:
        """Call `decide` with all updates and write its result as the next one; None if it returns None. `decide` is called again
        if another writer wrote meanwhile. Returns when the broker has the update. Raises BrokerUnavailable, and whatever `decide`
        raises."""
        made: tuple[str, ModelUpdate] | None = None  # with the id of its record
        cause: Exception | None = None
        for number in range(TRIES):
            if number:  # random, so that two writers that fence each other do not stay in step
                self._clock.sleep(random.uniform(0.0, PAUSE_S * number))
            sink = self._begin()
            try:
                written = self._whole()
                if made is not None and any((h.CE_ID, made[0].encode()) in (headers or ()) for headers in written.headers):
                    return made[1]  # the update was committed, but the reply was lost
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
    """The updates as they arrive. Invalid records are skipped: they must not block a rollback to the previous version."""
    return Followed(broadcast, Readable(MODEL_UPDATES, ids, ModelUpdate.from_dict))
