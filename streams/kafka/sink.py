"""A producer on real Kafka: transactional, or idempotent without transactions. Implements `streams.broker.Sink`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from schemas.errors import BrokerUnavailable, Fenced, TransactionAborted
from streams.broker import Commit
from streams.clock import SystemClock
from streams.daemon_thread import DaemonThread
from streams.kafka import client_errors
from streams.kafka.config import KafkaAddress, producer_config
from streams.kafka.messages import generation_of
from streams.rows import OutRecords, Place, in_range

START_LIMIT_S = 30.0
QUEUE_LIMIT_S = 30.0
HANG_S = 2.0  # past a call's own timeout
COUNT_LIMIT_S = 5.0
COUNT_KEPT_S = 60.0  # after this time the partitions of a topic that had too few are counted again


class KafkaSink:
    """`transactional_id` must be stable for a worker slot, so that a restarted process fences its predecessor at once."""

    def __init__(self, address: KafkaAddress, transactional_id: str | None, linger_ms: float = 0) -> None:
        """linger_ms: see `producer_config`. 0.5 gave an eighth more records per second, and each hop took a millisecond longer."""
        self._config = producer_config(address, transactional_id, linger_ms)
        self._transactional = transactional_id is not None
        self._log = structlog.get_logger().bind(producer=transactional_id or "idempotent")
        self._hangs = False
        self._calls: DaemonThread | None = None
        self._failed: set[str] = set()
        self._failure: TransactionAborted | None = None
        self._in_transaction = False
        self._clock = SystemClock()
        self._counts: dict[str, tuple[int, float]] = {}  # topics with too few partitions: number, time of count
        self.transaction_limit_s = address.transaction_timeout_ms / 1000
        self._built: Producer | None = self._new()

    def _new(self) -> Producer:
        hooks = {"on_delivery": self._on_delivery, "error_cb": self._on_error}
        producer = Producer(self._config | hooks, logger=None)
        if self._transactional:
            try:
                producer.init_transactions(START_LIMIT_S)
            except KafkaException as raised:
                with suppress(KafkaException, SystemError):
                    producer.close()
                raise client_errors.of_read(raised, "start of transactions") from raised
        return producer

    @property
    def _producer(self) -> Producer:
        """Raises TransactionAborted if the last producer is closed and no new one could be started yet."""
        if self._built is None:
            raise TransactionAborted("there is no producer: none could be started since the last one was closed", indefinite=True)
        return self._built

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Any call that serves callbacks may raise a fatal error (we were fenced). If another callback ran after it, the
        interpreter raises a SystemError instead, with the fatal error as its cause, or without a cause if the callback
        has cleared it."""
        try:
            yield
        except KafkaException as raised:
            raise client_errors.of_transaction(raised, doing) from raised
        except SystemError as raised:
            fatal = raised.__cause__ or self._fatal()
            if isinstance(fatal, KafkaException):
                raise client_errors.of_transaction(fatal, doing) from raised
            raise

    def _fatal(self) -> KafkaException | None:
        """The fatal error of the producer, if any. The client has no query for it, but raises it when a transaction begins."""
        try:
            self._producer.begin_transaction()
        except KafkaException as raised:
            return raised if client_errors.kafka_error(raised).fatal() else None
        return None

    def _on_error(self, error: KafkaError) -> None:
        if error.code() != KafkaError._TRANSPORT:  # raised for each try to connect; "all brokers down" reports it once
            self._log.info("producer", code=error.name(), cause=error.str())

    def _on_delivery(self, error: KafkaError | None, message: Any) -> None:
        """Called for failures only (`delivery.report.only.error`)."""
        if error is not None and error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            failure = self._refused(message.topic(), error, "a record was not delivered")
            self._failure = self._failure or failure  # the first failure is the cause

    def _refused(self, topic: str, error: KafkaError, doing: str) -> TransactionAborted:
        self._failed.add(topic)
        if error.code() == KafkaError._UNKNOWN_PARTITION:
            self._counts.setdefault(topic, (0, float("-inf")))
        words = f"{doing}: {topic}: {error.name()}: {error.str()}"
        return TransactionAborted(words, unwritable=topic if client_errors.is_of_the_record(error) else "")

    def _partitions(self, out: OutRecords) -> Sequence[int]:
        """The partition of each record. If the topic has fewer partitions than the numbers need, the numbers wrap around."""
        if out.partitions is None:
            return [-1] * len(out)
        if out.topic not in self._counts:
            return out.partitions
        count, counted_s = self._counts[out.topic]
        if self._clock.monotonic_s() - counted_s > COUNT_KEPT_S:
            with self._translated(f"number of partitions of {out.topic}"):
                listed = self._producer.list_topics(out.topic, COUNT_LIMIT_S).topics.get(out.topic)
            count = 0 if listed is None else len(listed.partitions)
            self._counts[out.topic] = count, self._clock.monotonic_s()
            self._log.warning(
                "topic has fewer partitions than what is written to it by number", topic=out.topic, partitions=count
            )
        return in_range(out.partitions, count)

    def produce(self, out: OutRecords) -> None:
        try:
            self._produce(out, self._partitions(out))
        except KafkaException as raised:
            error = client_errors.kafka_error(raised)
            if client_errors.is_of_the_record(error) or error.code() == KafkaError._UNKNOWN_PARTITION:
                raise self._refused(out.topic, error, "produce") from raised
            raise client_errors.of_transaction(raised, f"produce to {out.topic}") from raised

    def _produce(self, out: OutRecords, partitions: Sequence[int]) -> None:
        produce: Any = self._producer.produce
        topic = out.topic
        for key, value, headers, partition in zip(out.keys, out.values, out.headers, partitions, strict=True):
            try:
                produce(topic, value, key, partition, headers=headers)
            except BufferError:
                self._wait_for_room()
                produce(topic, value, key, partition, headers=headers)

    def _wait_for_room(self) -> None:
        with self._translated("wait for room in the queue"):
            left = self._producer.flush(QUEUE_LIMIT_S)
        if left > 0:
            raise TransactionAborted(f"the producer's queue did not empty in {QUEUE_LIMIT_S:.0f} s", indefinite=True)

    def flush(self, limit_s: float) -> None:
        """Wait until all records are acknowledged. Raises TransactionAborted if this takes more than `limit_s` or one was
        refused."""
        with self._translated("flush"):
            left = self._producer.flush(limit_s)
        if left > 0:
            raise TransactionAborted(f"records were not acknowledged in {limit_s:.0f} s", indefinite=True)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def begin(self) -> None:
        with self._translated("begin of a transaction"):
            self._producer.begin_transaction()
        self._in_transaction = True
        self._failure = None

    def commit(self, positions: Mapping[Place, Commit], membership: bytes, limit_s: float) -> None:
        if generation_of(membership) < 0:
            # A classic group accepts such a commit even if another member is alive: results would be duplicated.
            raise TransactionAborted("the consumer has not joined the group; its metadata fences nothing")
        self.flush(limit_s)  # thirteen times faster than the flush inside the next call (research, feasibility-kafka 6)
        offsets = [TopicPartition(t, p, c.offset, c.note) for (t, p), c in positions.items()]
        producer = self._producer

        def end() -> None:
            with self._translated("commit of a transaction"):
                producer.send_offsets_to_transaction(offsets, membership, limit_s)
                producer.commit_transaction(limit_s)

        self._bounded(end, limit_s)
        self._in_transaction = False

    def commit_records(self, limit_s: float) -> None:
        """Commit the produced records without positions, for a writer that reads nothing. Raises the same errors as `commit`."""
        self.flush(limit_s)

        def end() -> None:
            with self._translated("commit of a transaction"):
                self._producer.commit_transaction(limit_s)

        self._bounded(end, limit_s)
        self._in_transaction = False

    def _bounded(self, call: Callable[[], None], limit_s: float) -> None:
        """Some calls of the client exceed their own timeout: after a broker restart `send_offsets_to_transaction` has hung
        forever. Such a producer is abandoned together with its thread, and its successor fences it."""
        if self._calls is None:
            self._calls = DaemonThread("commit")
        try:
            self._calls.submit(call).result(limit_s + HANG_S)
        except TimeoutError as error:
            self._hangs, self._calls = True, None
            raise TransactionAborted(f"the commit did not return in {limit_s + HANG_S:.0f} s", indefinite=True) from error

    def abort(self, limit_s: float) -> None:
        if not self._in_transaction:
            return
        self._producer.purge()
        with self._translated("abort of a transaction"):
            self._producer.abort_transaction(limit_s)
        self._in_transaction = False
        self._failure = None

    def rebuild(self) -> None:
        old, self._built = self._built, None
        if old is not None and not self._hangs:
            with suppress(KafkaException, SystemError):  # a fenced producer raises its fatal error again
                old.purge()
                old.close()
        self._hangs = False
        self._in_transaction = False
        self._failure = None
        try:
            self._built = self._new()
        except BrokerUnavailable:
            raise
        except KafkaException as raised:
            raise client_errors.of_read(raised, "start of a new producer") from raised

    def failed_topics(self) -> set[str]:
        failed, self._failed = self._failed, set()
        return failed

    def close(self) -> None:
        if self._calls is not None:
            self._calls.close()
        if self._hangs or self._built is None:
            return
        if self._in_transaction:
            try:
                self.abort(5.0)
            except (TransactionAborted, Fenced):
                self._in_transaction = False  # the broker aborts it at its timeout
        try:
            self.flush(5.0)
        except (TransactionAborted, Fenced) as error:
            self._log.warning("records were not delivered at the end", cause=str(error))
        with suppress(KafkaException, SystemError):  # a fenced producer raises its fatal error again
            self._producer.close()
