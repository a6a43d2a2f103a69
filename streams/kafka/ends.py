"""Queries the ends of partitions on a thread beside the loop, because the broker's answer may take as long as a waiting fetch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Thread

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.kafka import client_errors
from streams.rows import Place

_LATEST = -1  # for a read_committed reader: the offset after the last record whose transaction is decided


class Ends:
    """Makes at most one query at a time, on its own thread."""

    def __init__(self, consumer: Consumer, limit_s: float) -> None:
        self._consumer, self._limit_s = consumer, limit_s
        self._thread: Thread | None = None
        self._answer: Callable[[], dict[Place, int]] | None = None

    def of(self, places: Iterable[Place]) -> dict[Place, int] | None:
        """The offset after the last record of each place, at some time since the query started; None while there is no answer.

        Raises BrokerUnavailable."""
        if self._thread is None:
            asked = [TopicPartition(topic, number, _LATEST) for topic, number in places]
            self._thread = Thread(target=self._ask, args=(asked,), name="ends", daemon=True)
            self._thread.start()
        if self._answer is None:
            return None
        answer, self._answer, self._thread = self._answer, None, None
        return answer()

    def _ask(self, asked: list[TopicPartition]) -> None:
        try:
            ends = self._consumer.offsets_for_times(asked, timeout=self._limit_s)
            known = {(end.topic, end.partition): end.offset for end in ends if end.error is None}
            self._answer = lambda: known
        except KafkaException as raised:
            refused = client_errors.of_read(raised, "ends of partitions")

            def refuse() -> dict[Place, int]:
                raise refused

            self._answer = refuse
        except RuntimeError:  # the consumer was closed meanwhile
            self._answer = dict

    def close(self) -> None:
        """Wait for the answer, which arrives within the limit: the consumer must not be closed during a query."""
        if self._thread is not None:
            self._thread.join(self._limit_s + 1.0)
