"""What a topic is and what a group that reads it is; the names that derive from them. The topics themselves: `topics.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Generic, Protocol, TypeVar

from schemas.errors import BadSettings


class Record(Protocol):
    """A generated dataclass of `schemas/generated.py`. RECORD: the name of its schema."""

    RECORD: ClassVar[str]


R = TypeVar("R", bound=Record, covariant=True)

KIB = 1024
DAY_MS = 24 * 3600 * 1000
FOREVER_MS = -1
MAX_NAME_CHARS = 249  # Kafka's own limit


class Guarantee(Enum):
    """What a read_committed reader may rely on."""

    NONE = "none"  # written by producers that are not ours
    EXACTLY_ONCE = "exactly once"  # one Kafka transaction with the offsets that it came from
    AT_LEAST_ONCE = "at least once"  # repeats carry the same request id and input offset


class Compatibility(Enum):
    """Schema Registry compatibility levels that we use."""

    FULL_TRANSITIVE = "FULL_TRANSITIVE"  # a reader or a writer is not ours
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"  # inside


class Order(Enum):
    RELAXED = "relaxed"  # a record that must wait goes to a retry topic; later ones pass it
    STRICT = "strict"  # it is retried in place, and its partition waits


@dataclass(frozen=True, kw_only=True)
class Topic(Generic[R]):
    """One topic. `record` is None where values keep the schema of the topic that they are copies of."""

    name: str
    record: type[R] | None
    key: str
    partitions: int
    retention_ms: int
    guarantee: Guarantee
    compatibility: Compatibility
    owner: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    order: Order = Order.RELAXED
    max_record_bytes: int = 1024 * KIB
    compacted: bool = False  # the last record of each key is kept, whatever its age

    @property
    def subject(self) -> str:
        return f"{self.name}-value"

    @property
    def record_name(self) -> str:
        """The name of the record's schema; empty where values keep the schema of another topic."""
        return self.record.RECORD if self.record is not None else ""


@dataclass(frozen=True, kw_only=True)
class Consumption:
    """A group of ours that reads a topic through the loop: it has retry and dead-letter topics there."""

    topic: Topic[Record]
    group: str  # also the name of the task, where a worker reads it
    retry_delays_ms: tuple[int, ...]
    results: Topic[Record] | None = None
    key_field: str = ""  # of the record, where clients take the key from it

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
