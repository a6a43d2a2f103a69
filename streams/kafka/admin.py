"""Administration of real Kafka: topics, their settings and offsets, and the positions of groups."""

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

from schemas.catalogue import topics_read_by
from schemas.errors import BrokerUnavailable
from streams.clock import SystemClock
from streams.kafka import client_errors
from streams.kafka.config import KafkaAddress, offsets_config
from streams.rows import Place

LIMIT_S = 20.0
CALL_LIMIT_S = 5.0
AT_ONCE = 8  # maximum number of groups that are queried at the same time
LEADERS_LIMIT_S = 60.0  # a single look-up may wait LIMIT_S on a broker that has just started
T = TypeVar("T")


@dataclass(frozen=True)
class TopicSpec:
    name: str
    partitions: int
    config: Mapping[str, str]


class KafkaAdmin:
    def __init__(self, address: KafkaAddress) -> None:
        self._clock, self._address = SystemClock(), address
        self._members: dict[str, Consumer] = {}  # by group
        self._lock = Lock()
        self._admin = self._client()

    def _client(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self._address.bootstrap, "log_level": 2}, logger=None)

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
        """Create the missing topics and return their names. Raises BrokerUnavailable."""
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

    def delete(self, names: Sequence[str]) -> None:
        """Delete those of these topics that exist, with all their records; returns when they are gone. Raises BrokerUnavailable."""
        names = sorted(set(names) & self.partitions().keys())
        futures = self._admin.delete_topics(names, operation_timeout=LIMIT_S) if names else {}
        for name, future in futures.items():
            try:
                future.result(LIMIT_S)
            except KafkaException as raised:
                raise client_errors.of_read(raised, f"{name} cannot be deleted") from raised
        until_s = self._clock.monotonic_s() + LIMIT_S
        while set(names) & self.partitions().keys() and self._clock.monotonic_s() < until_s:
            self._clock.sleep(0.1)

    def grow(self, partitions: Mapping[str, int]) -> None:
        """Increase the partitions of topics to the given numbers, and wait until they appear. Raises BrokerUnavailable."""
        if not partitions:
            return
        asked = [NewPartitions(name, count) for name, count in partitions.items()]
        for name, future in self._admin.create_partitions(asked, operation_timeout=LIMIT_S).items():
            try:
                future.result(LIMIT_S)
            except KafkaException as raised:
                raise client_errors.of_read(raised, f"more partitions for {name}") from raised
        until_s = self._clock.monotonic_s() + LEADERS_LIMIT_S
        while True:  # the client sees the new partitions only after it has listed the topics again
            there = self.partitions()
            if all(there.get(name, 0) >= count for name, count in partitions.items()):
                return
            if self._clock.monotonic_s() > until_s:
                raise BrokerUnavailable(f"new partitions of {', '.join(partitions)} did not appear in {LEADERS_LIMIT_S:.0f} s")
            self._clock.sleep(0.1)

    def _wait_for_leaders(self, places: Sequence[Place]) -> None:
        """Wait, with a limit, until new topics can be read and written: this is not the case immediately after their creation. Each try
        has a client of its own: one that once saw no leaders may go on seeing none until its metadata are a minute old."""
        until_s = self._clock.monotonic_s() + LEADERS_LIMIT_S
        while True:
            try:
                self.ends(places)
                return
            except BrokerUnavailable:
                if self._clock.monotonic_s() > until_s:
                    raise
                self._clock.sleep(0.1)
                self._admin = self._client()

    def config_of(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Raises BrokerUnavailable."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        found: dict[str, dict[str, str]] = {}
        try:
            for resource, future in self._admin.describe_configs(resources).items():
                entries = future.result(LIMIT_S)
                found[resource.name] = {name: entry.value for name, entry in entries.items()}
        except KafkaException as raised:
            raise client_errors.of_read(raised, "settings of topics") from raised
        return found

    def topic_id(self, name: str) -> str:
        """The id that the topic got at its creation; a topic of the same name that is created again has another id (KIP-516).
        Raises BrokerUnavailable."""
        try:
            (future,) = self._admin.describe_topics(TopicCollection([name]), request_timeout=LIMIT_S).values()
            return str(future.result(LIMIT_S).topic_id)
        except KafkaException as raised:
            raise client_errors.of_read(raised, f"id of {name}") from raised

    def broker_setting(self, name: str) -> str:
        """The value of a setting on the first broker in the list of brokers. Raises BrokerUnavailable."""
        try:
            broker = next(iter(self._admin.list_topics(timeout=LIMIT_S).brokers))
            (future,) = self._admin.describe_configs([ConfigResource(ResourceType.BROKER, str(broker))]).values()
            return str(future.result(LIMIT_S)[name].value)
        except KafkaException as raised:
            raise client_errors.of_read(raised, f"setting {name} of the broker") from raised

    def ends(self, places: Sequence[Place]) -> dict[Place, int]:
        """The offset after the last record of each place."""
        return self._offsets(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def firsts(self, places: Sequence[Place]) -> dict[Place, int]:
        """The offset of the first record that is still kept."""
        return self._offsets(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def offsets_at(self, places: Sequence[Place], at_ms: int) -> dict[Place, int]:
        """The offset of the first record at or after a time; the end if there is no such record."""
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
        """Committed offsets of a group; empty if there are none. Raises BrokerUnavailable."""
        return self.committed_of([group])[group]

    def committed_of(self, groups: Iterable[str]) -> dict[str, dict[Place, int]]:
        """Committed offsets of several groups, for the topics that a group reads according to the catalogue, or for all topics if
        the catalogue does not contain the group. Queries groups in parallel, and tries again while a coordinator is loading.
        Waits for the offsets of undecided transactions (KIP-447). Raises BrokerUnavailable."""
        until_s, partitions = self._clock.monotonic_s() + LIMIT_S, self.partitions()
        asked = {group: _places_of(group, partitions) for group in groups}
        with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="committed") as pool:
            positions = pool.map(lambda group: self._committed(group, asked[group], until_s), asked)
            return dict(zip(asked, positions, strict=True))

    def set_positions(self, group: str, positions: Mapping[Place, int]) -> None:
        """Commit the offsets from which a group starts, before it has any member. Raises BrokerUnavailable."""
        offsets = [TopicPartition(*place, offset) for place, offset in positions.items()]
        until_s = self._clock.monotonic_s() + LIMIT_S
        self._of_group(
            group, f"positions of group {group}", until_s, lambda member: member.commit(offsets=offsets, asynchronous=False)
        )

    def _committed(self, group: str, places: list[TopicPartition], until_s: float) -> dict[Place, int]:
        if not places:
            return {}
        answers: list[TopicPartition] = self._of_group(
            group, f"offsets of group {group}", until_s, lambda member: member.committed(places, timeout=CALL_LIMIT_S)
        )
        return {(p.topic, p.partition): p.offset for p in answers if p.offset >= 0}

    def _of_group(self, group: str, doing: str, until_s: float, call: Callable[[Consumer], T]) -> T:
        """Make a call through a consumer that has the group's id but never joins the group. The client's admin calls for a
        group's offsets crash the process (SIGSEGV) if the broker answers that it is not the group's coordinator, as a broker does
        that has just started (librdkafka #5040)."""
        while True:
            try:
                return call(self._member(group))
            except KafkaException as raised:
                if client_errors.kafka_error(raised).code() not in client_errors.TRANSIENT or self._clock.monotonic_s() > until_s:
                    raise client_errors.of_read(raised, doing) from raised
            self._clock.sleep(0.2)

    def _member(self, group: str) -> Consumer:
        with self._lock:
            if group not in self._members:
                self._members[group] = Consumer(offsets_config(self._address, group), logger=None)
            return self._members[group]


def _places_of(group: str, partitions: Mapping[str, int]) -> list[TopicPartition]:
    topics = topics_read_by(group) or partitions
    return [TopicPartition(name, number) for name in topics for number in range(partitions.get(name, 0))]
