"""A member of a consumer group on real Kafka. Implements `streams.broker.Source`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.errors import BrokerUnavailable, MemberFenced, TransactionAborted
from streams.broker import Commit, Listener
from streams.clock import SystemClock
from streams.daemon_thread import DaemonThread
from streams.kafka import client_errors
from streams.kafka.config import GroupProtocol, KafkaAddress, consumer_config
from streams.kafka.ends import Ends
from streams.kafka.messages import columns, generation_of
from streams.metrics import Metrics
from streams.rows import Place, Polled

CALL_LIMIT_S = 10.0
RESTART_S = 30.0
CLOSE_LIMIT_S = 40.0  # more than the two commits that a revocation may wait for
LEAVE_LIMIT_S = 30.0
LEAVE_POLL_S = 0.1
UNDECIDED = "committed offsets (if the broker is up, a transaction holds them back: kafka-transactions.sh find-hanging, KIP-664)"


class KafkaSource:
    def __init__(self, address: KafkaAddress, group: str, metrics: Metrics) -> None:
        self._address = address
        self._metrics = metrics
        self._clock = SystemClock()
        self._log = structlog.get_logger().bind(group=group)
        self._consumer = Consumer(consumer_config(address, group) | {"error_cb": self._on_event}, logger=None)
        self._listener: Listener | None = None
        self._starting: dict[Place, int] | None = None  # during an assignment: the offset at which each partition will start
        self._raised: BaseException | None = None
        self._topics: list[str] = []
        self._held: set[Place] = set()  # kept by the callbacks, because the client does not answer while it closes
        self._at_end: dict[Place, int] = {}  # the end of each place when it was last reached, since the last seek
        self._ends = Ends(self._consumer, CALL_LIMIT_S)
        self._member: bytes | None = None  # kept while nothing changes; the broker refuses an outdated one
        self._closed = False

    @property
    def commits_on_revoke(self) -> bool:
        return self._address.protocol is GroupProtocol.CLASSIC

    @property
    def generation(self) -> int:
        return generation_of(self._membership() or b"")

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        self._listener, self._topics = listener, list(topics)
        self._consumer.subscribe(self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def rejoin(self) -> None:
        assert self._listener is not None
        self._consumer.unsubscribe()
        self.subscribe(self._topics, self._listener)

    # --- reading ------------------------------------------------------------------------------------------------

    def poll(self, max_records: int, wait_s: float) -> Polled:
        """At most `max_records` committed records. Waits at most `wait_s` for the first record, then takes the records that are
        already fetched. Changes of the group call the listener during the poll. The result has the membership from before this
        poll, so that a commit of these records is refused if a rebalance has given them to another member meanwhile.

        Raises BrokerUnavailable on a fatal error, MemberFenced if another process has this member's name, TransactionAborted if
        retention or an election removed the records at the position, and any error of the listener."""
        # Read before the poll: a rebalance during it may already have given the records away, and the newer generation would
        # then allow a commit of records that were read under the older one.
        if self._member is None:
            self._member = self._membership()
        membership = self._member
        try:
            first = self._consumer.poll(wait_s)
            messages = [] if first is None else [first]
            if first is not None and max_records > 1:
                messages += self._consumer.consume(max_records - 1, 0)
        except KafkaException as raised:
            raise client_errors.of_read(raised, "poll") from raised
        self._reraise()
        good = [message for message in messages if message.error() is None]
        if len(good) != len(messages):
            for message in messages:
                if message.error() is not None:
                    self._on_error(message)
        if not good:
            return Polled()
        polled = columns(good)
        # The first records may arrive in the same poll that joined the group; no records were given away during it.
        polled.membership = membership or self._membership()
        return polled

    def _membership(self) -> bytes | None:
        metadata: Any = self._consumer.consumer_group_metadata()
        return metadata if metadata is not None and generation_of(metadata) >= 0 else None

    def _on_event(self, error: KafkaError) -> None:
        if error.code() != KafkaError._TRANSPORT:  # raised for each try to connect; "all brokers down" reports it once
            self._log.info("consumer", code=error.name(), cause=error.str())

    def _on_error(self, message: Message) -> None:
        error = message.error()
        assert error is not None
        if error.code() == KafkaError._PARTITION_EOF:
            self._at_end[message.topic() or "", message.partition() or 0] = message.offset() or 0
        elif error.code() == KafkaError._AUTO_OFFSET_RESET or error.code() == KafkaError.OFFSET_OUT_OF_RANGE:
            # Retention deleted the next records, or an election truncated the log. All records of the partition in flight must
            # be dropped: the loop goes back to the committed offsets, and `committed` reports how many records are lost.
            raise TransactionAborted(f"{message.topic()}/{message.partition()} can no longer be read from where it stood")
        elif error.fatal() and "fenced" in error.str():  # a fatal error does not contain the code of its cause
            raise MemberFenced(f"consumer: {error.str()}. Another process runs with the same group.instance.id")
        elif error.fatal() or error.code() not in client_errors.HARMLESS:
            raise BrokerUnavailable(f"consumer: {error.name()}: {error.str()}")
        else:
            self._log.info("consumer", code=error.name(), cause=error.str())

    # --- positions ----------------------------------------------------------------------------------------------

    def assignment(self) -> set[Place]:
        if self._closed:
            return set()
        return self._held | (self._starting.keys() if self._starting is not None else set())

    def committed(self, places: Iterable[Place]) -> dict[Place, Commit]:
        asked = [TopicPartition(*place) for place in places]
        if not asked:
            return {}
        # While a dead member's transaction is open, its offsets are not stable and we have to wait: at most the transaction
        # timeout plus the duration of a broker restart.
        until_s = self._clock.monotonic_s() + self._address.transaction_timeout_ms / 1000 + RESTART_S
        while True:
            try:
                return self._committed(asked)
            except KafkaException as raised:
                if self._clock.monotonic_s() > until_s or client_errors.kafka_error(raised).code() not in client_errors.TRANSIENT:
                    raise client_errors.of_read(raised, UNDECIDED) from raised
                self._log.info("committed offsets are not to be had yet", cause=client_errors.kafka_error(raised).str())
                self._clock.sleep(0.2)

    def _committed(self, asked: list[TopicPartition]) -> dict[Place, Commit]:
        found: dict[Place, Commit] = {}
        for answer in self._consumer.committed(asked, timeout=CALL_LIMIT_S):
            if answer.error is not None:
                raise KafkaException(answer.error)
            low, high = self._consumer.get_watermark_offsets(answer, timeout=CALL_LIMIT_S)
            place = (answer.topic, answer.partition)
            if answer.offset < 0:
                found[place] = Commit(low)
            elif answer.offset < low:
                lost = low - answer.offset
                self._metrics.add("lost_records", lost)
                self._log.error("records deleted before they were read", place=place, lost=lost, first=low)
                found[place] = Commit(low)
            else:
                # If there is no record to read, no record can have killed an earlier owner, so the note has no meaning.
                found[place] = Commit(min(answer.offset, high), (answer.metadata or "") if answer.offset < high else "")
        return found

    def commit(self, positions: Mapping[Place, Commit]) -> None:
        if not positions:
            return
        offsets = [TopicPartition(t, p, c.offset, c.note) for (t, p), c in positions.items()]
        try:
            for answer in self._consumer.commit(offsets=offsets, asynchronous=False) or ():
                if answer.error is not None:
                    raise KafkaException(answer.error)
        except KafkaException as raised:
            raise client_errors.of_commit(raised) from raised

    def unread(self, positions: Mapping[Place, int]) -> dict[Place, int] | None:
        ends = self._ends.of(positions)
        if ends is None:
            return None
        read = {place: max(position, self._at_end.get(place, 0)) for place, position in positions.items()}
        return {place: ends[place] - offset for place, offset in read.items() if ends.get(place, 0) > offset}

    def seek(self, positions: Mapping[Place, int]) -> None:
        self._member = None
        for place, offset in positions.items():
            self._at_end.pop(place, None)
            if self._starting is not None and place in self._starting:
                self._starting[place] = offset
                continue
            try:
                self._consumer.seek(TopicPartition(*place, offset))
            except KafkaException as raised:
                raise client_errors.of_read(raised, f"seek of {place} to {offset}") from raised

    def pause(self, places: Iterable[Place]) -> None:
        self._consumer.pause([TopicPartition(*place) for place in places])

    def resume(self, places: Iterable[Place]) -> None:
        self._consumer.resume([TopicPartition(*place) for place in places])

    def close(self) -> None:
        """A client that does not leave is abandoned with its thread, and the group notices by the session."""
        if self._closed:
            return
        self._ends.close()
        thread = DaemonThread("leave")
        try:
            thread.submit(self._leave).result(CLOSE_LIMIT_S)
        except TimeoutError:
            self._log.warning("the client did not leave its group", limit_s=CLOSE_LIMIT_S)
        finally:
            thread.close()
            self._closed = True

    def _leave(self) -> None:
        """Leave the group, and then close. In the client's own close a change of the group may be told after its thread has ended; the
        client then asks that thread what to do, for ever, and holds Python's lock meanwhile: the whole process stands still. A client
        that has left has no changes to tell. A static member must not leave: it would lose its partitions over a restart."""
        if not self._address.instance:
            try:
                self._consumer.unsubscribe()
                until_s = self._clock.monotonic_s() + LEAVE_LIMIT_S
                while (self._consumer.poll(LEAVE_POLL_S) is not None or self._held) and self._clock.monotonic_s() < until_s:
                    pass  # records of before: their next owner reads them
            except (KafkaException, RuntimeError) as error:
                self._log.info("left without a word to the group", cause=str(error))
        self._consumer.close()

    # --- the group's changes, called inside poll and close ------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._starting = {(p.topic, p.partition): 0 for p in partitions}
        self._member = None
        try:
            assert self._listener is not None
            self._listener.assigned(list(self._starting))
            starts = [TopicPartition(topic, partition, offset) for (topic, partition), offset in self._starting.items()]
            if self._address.protocol is GroupProtocol.CLASSIC:
                consumer.assign(starts)
                self._held = set(self._starting)
            else:
                consumer.incremental_assign(starts)
                self._held |= self._starting.keys()
        except BaseException as error:  # the client loses an exception in a callback unless we keep it
            self._raised = error
        finally:
            self._starting = None

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._on_gone(partitions, lost=False)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._on_gone(partitions, lost=True)

    def _on_gone(self, partitions: list[TopicPartition], *, lost: bool) -> None:
        self._member = None
        try:
            assert self._listener is not None
            self._listener.revoked([(p.topic, p.partition) for p in partitions], lost=lost)
        except BaseException as error:
            self._raised = error
        finally:
            self._held.difference_update((p.topic, p.partition) for p in partitions)

    def _reraise(self) -> None:
        if self._raised is not None:
            error, self._raised = self._raised, None
            raise error
