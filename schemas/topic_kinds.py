"""The types of topics and of the groups that read them, and the names derived from them. The topics themselves: `topics.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Generic, Protocol, TypeVar

from schemas.durations import DAY_MS
from schemas.errors import BadSettings


class Record(Protocol):
    """A generated dataclass of `schemas/generated.py`. RECORD: the name of its schema."""

    RECORD: ClassVar[str]


R = TypeVar("R", bound=Record, covariant=True)

KIB = 1024
FOREVER_MS = -1
MAX_NAME_CHARS = 249  # Kafka's own limit


class Guarantee(Enum):
    """The guarantee for a read_committed reader."""

    NONE = "none"  # written by producers outside Millrace
    EXACTLY_ONCE = "exactly once"  # written in one Kafka transaction with the input offsets
    AT_LEAST_ONCE = "at least once"  # duplicates carry the same request id and input offset


class Compatibility(Enum):
    """The schema registry's compatibility levels in use."""

    FULL_TRANSITIVE = "FULL_TRANSITIVE"  # a reader or a writer is outside Millrace
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"  # all readers and writers are part of Millrace


class Order(Enum):
    RELAXED = "relaxed"  # a record that must wait goes to a retry topic; later records overtake it
    STRICT = "strict"  # the record is retried in place, and its partition waits


@dataclass(frozen=True, kw_only=True)
class Topic(Generic[R]):
    """One topic. `record` is None if its values are copied from another topic and keep that topic's schema."""

    name: str
    record: type[R] | None
    key: str
    owner: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    partitions: int = 4
    retention_ms: int = 7 * DAY_MS
    guarantee: Guarantee = Guarantee.EXACTLY_ONCE
    compatibility: Compatibility = Compatibility.FULL_TRANSITIVE
    order: Order = Order.RELAXED
    max_record_bytes: int = 1024 * KIB
    compacted: bool = False  # the last record of each key is kept forever

    @property
    def subject(self) -> str:
        return f"{self.name}-value"

    @property
    def record_name(self) -> str:
        """The name of the record's schema; empty if values keep the schema of another topic."""
        return self.record.RECORD if self.record is not None else ""


@dataclass(frozen=True, kw_only=True)
class Consumption:
    """A consumer group that reads a topic with the loop. It has retry and dead-letter topics of its own."""

    topic: Topic[Record]
    group: str  # for a worker this is also the name of the task
    retry_delays_ms: tuple[int, ...]
    results: Topic[Record] | None = None
    key_field: str = ""  # the field of the record that clients use as the key

    def retry_topics(self) -> tuple[str, ...]:
        return tuple(retry_name(self.topic.name, self.group, delay_ms) for delay_ms in self.retry_delays_ms)

    @property
    def dead_letter_topic(self) -> str:
        return dead_letter_name(self.topic.name, self.group)


def retry_name(topic: str, group: str, delay_ms: int) -> str:
    delay = f"{delay_ms // 1000}s" if delay_ms % 1000 == 0 else f"{delay_ms}ms"
    return _checked(f"{topic}-{group}-retry-{delay}")


def dead_letter_name(topic: str, group: str) -> str:
    return _checked(f"{topic}-{group}-dlq")


def _checked(name: str) -> str:
    if len(name) > MAX_NAME_CHARS:
        raise BadSettings(f"topic name {name[:40]}… has {len(name)} characters; Kafka allows {MAX_NAME_CHARS}")
    return name
