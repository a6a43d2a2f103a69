"""Reads the small topics into the story, from one thread."""

from __future__ import annotations

from infra.monitor import letters
from infra.monitor.watching.story import MOST_LETTERS, TOPICS, Story
from schemas.codec import SchemaIds
from schemas.errors import BrokerUnavailable
from schemas.topics import WORKER_STATUS
from streams.clock import Clock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.rows import Place

STATUSES_BACK_MS = 15_000  # at the start: older statuses do not describe the present
TO_END_LIMIT_S = 120.0


class Follower:
    def __init__(self, address: KafkaAddress, ids: SchemaIds, clock: Clock, story: Story) -> None:
        self._address, self._ids, self._clock, self._story = address, ids, clock, story
        self._reader: KafkaBroadcast | None = None
        self._dead_letter_topics: set[str] = set()

    def follow(self) -> None:
        """Take the records since the last call; the first call, and the first after `leave`, reads to the ends. Raises
        BrokerUnavailable, and RetryLater if the registry does not answer. It starts from the beginning when a task was added or
        removed."""
        if self._dead_letter_topics != letters.by_topic().keys():
            self.leave()
        if self._reader is None:
            self._dead_letter_topics = set(letters.by_topic())
            self._reader = KafkaBroadcast(self._address, [*TOPICS, *self._dead_letter_topics], self._clock, self._starts())
            self._story.clear()
            until_s = self._clock.monotonic_s() + TO_END_LIMIT_S
            while not self._reader.at_end():
                if self._clock.monotonic_s() > until_s:
                    raise BrokerUnavailable(f"the small topics were not read to their ends in {TO_END_LIMIT_S:.0f} s")
                self._take(self._reader, 0.2)
        self._take(self._reader, 0.0)

    def leave(self) -> None:
        """The next call starts from the beginning, and reads the topics into the story again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _starts(self) -> dict[Place, int]:
        admin = KafkaAdmin(self._address)
        statuses = [(WORKER_STATUS.name, number) for number in range(WORKER_STATUS.partitions)]
        starts: dict[Place, int] = dict(admin.offsets_at(statuses, self._clock.now_ms() - STATUSES_BACK_MS))
        # dead letters are kept for ever, and only the newest are held
        there = admin.partitions()
        dead = [(name, n) for name in self._dead_letter_topics for n in range(there.get(name, 0))]
        return starts | {place: max(0, end - MOST_LETTERS) for place, end in admin.ends(dead).items()}

    def _take(self, reader: KafkaBroadcast, wait_s: float) -> None:
        polled = reader.wait(wait_s)
        if len(polled):
            self._story.take(polled, self._ids)
