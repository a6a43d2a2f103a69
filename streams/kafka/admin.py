"""Topics on real Kafka: what is there, what is missing, who lags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported at run time
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from schemas.errors import BrokerUnavailable
from schemas.topics import topics_read_by
from streams.clock import SystemClock
from streams.kafka import client_errors
from streams.kafka.config import KafkaAddress
from streams.rows import Place

LIMIT_S = 20.0
CALL_LIMIT_S = 5.0
AT_ONCE = 8  # groups that are asked for at the same time
_LOADING = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError._WAIT_COORD,
    KafkaError._TIMED_OUT,
)
T = TypeVar("T")
LEADERS_LIMIT_S = 60.0  # one look-up alone may wait LIMIT_S on a broker that has just begun


@dataclass(frozen=True)
class TopicSpec:
    name: str
    partitions: int
    config: Mapping[str, str]


class KafkaAdmin:
    def __init__(self, address: KafkaAddress) -> None:
        self._clock, self._bootstrap = SystemClock(), address.bootstrap
        self._members: dict[str, Consumer] = {}  # by group
        self._lock = Lock()
        self._admin = AdminClient({"bootstrap.servers": address.bootstrap, "log_level": 2}, logger=None)

    def brokers(self, limit_s: float = 5.0) -> int:
        """Number of brokers that answer. Raises BrokerUnavailable."""
        try:
            return len(self._admin.list_topics(timeout=limit_s).brokers)
        except KafkaException as raised:
            raise client_errors.of_read(raised, "look for brokers") from raised

    def partitions(self) -> dict[str, int]:
        """Number of partitions of each topic."""
        try:
            return {name: len(found.partitions) for name, found in self._admin.list_topics(timeout=LIMIT_S).topics.items()}
        except KafkaException as raised:
            raise client_errors.of_read(raised, "list topics") from raised

    def create(self, specs: Sequence[TopicSpec], replication: int = 1) -> list[str]:
        """Create those that are missing; the names of those that were. Raises BrokerUnavailable."""
        new = [NewTopic(s.name, s.partitions, replication_factor=replication, config=dict(s.config)) for s in specs]
        created: list[str] = []
        if not new:
            return created
        for name, future in self._admin.create_topics(new, operation_timeout=LIMIT_S).items():
            try:
                future.result(LIMIT_S)
                created.append(name)
            except KafkaException as raised:
                if client_errors.kafka_error(raised).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise client_errors.of_read(raised, f"create topic {name}") from raised
        self._wait_for_leaders([(spec.name, number) for spec in specs for number in range(spec.partitions)])
        return created

    def grow(self, partitions: Mapping[str, int]) -> None:
        """Give topics so many partitions. Raises BrokerUnavailable."""
        if not partitions:
            return
        asked = [NewPartitions(name, count) for name, count in partitions.items()]
        for name, future in self._admin.create_partitions(asked, operation_timeout=LIMIT_S).items():
            try:
                future.result(LIMIT_S)
            except KafkaException as raised:
                raise client_errors.of_read(raised, f"more partitions for {name}") from raised
        until_s = self._clock.monotonic_s() + LEADERS_LIMIT_S
        while True:  # the client knows of them once it has listed the topics anew
            there = self.partitions()
            if all(there.get(name, 0) >= count for name, count in partitions.items()):
                return
            if self._clock.monotonic_s() > until_s:
                raise BrokerUnavailable(f"new partitions of {', '.join(partitions)} did not appear in {LEADERS_LIMIT_S:.0f} s")
            self._clock.sleep(0.1)

    def _wait_for_leaders(self, places: Sequence[Place]) -> None:
        """A topic that was just made is not at once ready to be read and written: wait for that, with a limit."""
        until_s = self._clock.monotonic_s() + LEADERS_LIMIT_S
        while True:
            try:
                self.ends(places)
                return
            except BrokerUnavailable:
                if self._clock.monotonic_s() > until_s:
                    raise
                self._clock.sleep(0.1)

    def config_of(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        found: dict[str, dict[str, str]] = {}
        for resource, future in self._admin.describe_configs(resources).items():
            entries = future.result(LIMIT_S)
            found[resource.name] = {name: entry.value for name, entry in entries.items()}
        return found

    def topic_id(self, name: str) -> str:
        """The id that the topic got when it was created: one of the same name that is created anew has another (KIP-516). Raises
        BrokerUnavailable."""
        try:
            (future,) = self._admin.describe_topics(TopicCollection([name]), request_timeout=LIMIT_S).values()
            return str(future.result(LIMIT_S).topic_id)
        except KafkaException as raised:
            raise client_errors.of_read(raised, f"id of {name}") from raised

    def broker_setting(self, name: str) -> str:
        """As the first broker that answers has it. Raises BrokerUnavailable."""
        try:
            broker = next(iter(self._admin.list_topics(timeout=LIMIT_S).brokers))
            (future,) = self._admin.describe_configs([ConfigResource(ResourceType.BROKER, str(broker))]).values()
            return str(future.result(LIMIT_S)[name].value)
        except KafkaException as raised:
            raise client_errors.of_read(raised, f"setting {name} of the broker") from raised

    def ends(self, places: Sequence[Place]) -> dict[Place, int]:
        """Offset behind the last record of each place."""
        return self._offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def firsts(self, places: Sequence[Place]) -> dict[Place, int]:
        """Offset of the first record kept."""
        return self._offsets(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def offsets_at(self, places: Sequence[Place], at_ms: int) -> dict[Place, int]:
        """Offset of the first record at or after a time; the end where there is none."""
        found = self._offsets(places, OffsetSpec.for_timestamp(at_ms))
        ends = self.ends([place for place, offset in found.items() if offset < 0])
        return {place: offset if offset >= 0 else ends[place] for place, offset in found.items()}

    def _offsets(self, places: Sequence[Place], which: OffsetSpec) -> dict[Place, int]:
        if not places:
            return {}
        asked = {TopicPartition(*place): which for place in places}
        try:
            return {(p.topic, p.partition): f.result(LIMIT_S).offset for p, f in self._admin.list_offsets(asked).items()}
        except KafkaException as raised:
            raise client_errors.of_read(raised, "offsets") from raised

    # --- positions of groups --------------------------------------------------------------------------------------

    def committed(self, group: str) -> dict[Place, int]:
        """Committed offsets of a group; empty where there is none. Raises BrokerUnavailable."""
        return self.committed_of([group])[group]

    def committed_of(self, groups: Iterable[str]) -> dict[str, dict[Place, int]]:
        """Committed offsets of several groups, asked for side by side, and asked again while their coordinator is being loaded: of the
        topics that the catalogue says a group reads, of all topics for a group that it does not know. Offsets of a transaction that is
        not decided are waited for (KIP-447). Raises BrokerUnavailable."""
        until_s = self._clock.monotonic_s() + LIMIT_S
        asked = {group: self._places_of(group) for group in groups}
        with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="committed") as pool:
            positions = pool.map(lambda group: self._committed(group, asked[group], until_s), asked)
            return dict(zip(asked, positions, strict=True))

    def set_positions(self, group: str, positions: Mapping[Place, int]) -> None:
        """Commit offsets for a group that nobody is in yet: where its first member begins. Raises BrokerUnavailable."""
        offsets = [TopicPartition(*place, offset) for place, offset in positions.items()]
        until_s = self._clock.monotonic_s() + LIMIT_S
        self._of_group(
            group, f"positions of group {group}", until_s, lambda member: member.commit(offsets=offsets, asynchronous=False)
        )

    def _places_of(self, group: str) -> list[TopicPartition]:
        topics = topics_read_by(group)
        partitions = self.partitions()
        return [TopicPartition(name, number) for name in (topics or partitions) for number in range(partitions.get(name, 0))]

    def _committed(self, group: str, places: list[TopicPartition], until_s: float) -> dict[Place, int]:
        if not places:
            return {}
        answers: list[TopicPartition] = self._of_group(
            group, f"offsets of group {group}", until_s, lambda member: member.committed(places, timeout=CALL_LIMIT_S)
        )
        return {(p.topic, p.partition): p.offset for p in answers if p.offset >= 0}

    def _of_group(self, group: str, doing: str, until_s: float, call: Callable[[Consumer], T]) -> T:
        """Through a consumer that names the group and never joins it. The client's admin calls for a group's offsets end the process
        (SIGSEGV) where the broker answers that it is not the group's coordinator, as a broker does that has just begun (librdkafka
        #5040)."""
        while True:
            try:
                return call(self._member(group))
            except KafkaException as raised:
                if client_errors.kafka_error(raised).code() not in _LOADING or self._clock.monotonic_s() > until_s:
                    raise client_errors.of_read(raised, doing) from raised
            self._clock.sleep(0.2)

    def _member(self, group: str) -> Consumer:
        """str(group): the client takes no subclass of str, as the names of Flink's groups are."""
        with self._lock:
            if group not in self._members:
                self._members[group] = Consumer({
                    "bootstrap.servers": self._bootstrap, "group.id": str(group), "enable.auto.commit": False,
                    "isolation.level": "read_committed", "log_level": 2,
                }, logger=None)  # fmt: skip
            return self._members[group]
