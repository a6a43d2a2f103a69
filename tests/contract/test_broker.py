"""What the loop relies on, asked of real Kafka and of the in-memory broker alike."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import pytest
from confluent_kafka import KafkaException

from schemas.errors import Fenced, MillraceError, TransactionAborted
from streams.broker import Broadcast, Commit, Sink, Source
from streams.clock import Clock, ManualClock, SystemClock
from streams.kafka.admin import KafkaAdmin, TopicSpec
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.messages import generation_of
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource
from streams.memory.cluster import MemoryBroker
from streams.memory.endpoints import MemoryBroadcast, MemorySink, MemorySource
from streams.metrics import Metrics
from streams.murmur2 import partition_of
from streams.rows import OutRecords, Place, Polled
from tests.conftest import Servers


class Broker(Protocol):
    clock: Clock

    def topic(self, partitions: int) -> str: ...
    def source(self, group: str) -> Source: ...
    def sink(self, group: str, transactional_id: str | None) -> Sink: ...
    def broadcast(self, topic: str) -> Broadcast: ...


class InMemory:
    def __init__(self) -> None:
        self.clock: Clock = ManualClock()
        self._broker = MemoryBroker(self.clock)

    def topic(self, partitions: int) -> str:
        name = f"t-{uuid.uuid4().hex[:8]}"
        self._broker.create(name, partitions)
        return name

    def source(self, group: str) -> Source:
        return MemorySource(self._broker, group)

    def sink(self, group: str, transactional_id: str | None) -> Sink:
        return MemorySink(self._broker, group, transactional_id)

    def broadcast(self, topic: str) -> Broadcast:
        return MemoryBroadcast(self._broker, topic)


class OnKafka:
    def __init__(self, servers: Servers) -> None:
        self.clock: Clock = SystemClock()
        self._address = servers.address

    def topic(self, partitions: int) -> str:
        name = f"t-{uuid.uuid4().hex[:8]}"
        KafkaAdmin(self._address).create([TopicSpec(name, partitions, {})])
        return name

    def source(self, group: str) -> Source:
        return KafkaSource(self._address, group, Metrics())

    def sink(self, group: str, transactional_id: str | None) -> Sink:
        return KafkaSink(self._address, transactional_id)

    def broadcast(self, topic: str) -> Broadcast:
        return KafkaBroadcast(self._address, topic, self.clock)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.real)])
def broker(request: pytest.FixtureRequest) -> Broker:
    return InMemory() if request.param == "memory" else OnKafka(request.getfixturevalue("servers"))


class Follow:
    """A listener that starts each partition at its committed offset, and writes down what happened."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.assigned_: list[set[Place]] = []
        self.revoked_: list[set[Place]] = []

    def assigned(self, places: Sequence[Place]) -> None:
        self.assigned_.append(set(places))
        self.source.seek({place: commit.offset for place, commit in self.source.committed(places).items()})

    def revoked(self, places: Sequence[Place], *, lost: bool) -> None:
        self.revoked_.append(set(places))


def records(topic: str, *values: bytes | None, partition: int = 0) -> OutRecords:
    keys: list[bytes | None] = [b"k"] * len(values)
    return OutRecords(
        topic, keys, list(values), [[("n", str(i).encode())] for i in range(len(values))], [partition] * len(values)
    )


def group() -> str:
    return f"g-{uuid.uuid4().hex[:8]}"


def read(source: Source, n: int, tries: int = 100) -> list[Polled]:
    found: list[Polled] = []
    for _ in range(tries):
        polled = source.poll(100, 0.1)
        if len(polled):
            found.append(polled)
        if sum(map(len, found)) >= n:
            break
    return found


def values(polled: list[Polled]) -> list[bytes | None]:
    return [value for one in polled for value in one.values]


def joined(broker: Broker, topic: str, name: str) -> tuple[Source, Follow]:
    source = broker.source(name)
    follow = Follow(source)
    source.subscribe([topic], follow)
    for _ in range(100):
        source.poll(1, 0.1)
        if follow.assigned_:
            break
    source.seek(dict.fromkeys(source.assignment(), 0))
    return source, follow


def test_records_come_whole_and_in_the_order_of_their_partition(broker: Broker) -> None:
    topic, name = broker.topic(1), group()
    sink = broker.sink(name, None)
    sink.produce(records(topic, b"a", None, b"c"))
    sink.flush(10)
    source, _ = joined(broker, topic, name)
    polled = read(source, 3)
    assert values(polled) == [b"a", None, b"c"]
    assert [offset for one in polled for offset in one.offsets] == [0, 1, 2]
    assert [headers for one in polled for headers in one.headers] == [[("n", b"0")], [("n", b"1")], [("n", b"2")]]
    assert polled[0].keys[0] == b"k"
    source.close()


def test_an_open_or_aborted_transaction_is_not_seen_and_leaves_a_gap(broker: Broker) -> None:
    topic, name = broker.topic(1), group()
    sink = broker.sink(name, f"{name}-p")
    sink.begin()
    sink.produce(records(topic, b"aborted"))
    sink.flush(10)
    source, _ = joined(broker, topic, name)
    assert values(read(source, 1, tries=5)) == []
    sink.abort(10)
    sink.begin()
    sink.produce(records(topic, b"kept"))
    sink.commit({(topic, 0): Commit(0)}, membership_of(source), 10)
    polled = read(source, 1)
    assert values(polled) == [b"kept"]
    assert polled[0].offsets[0] >= 2  # behind the aborted record and its marker
    source.close()
    sink.close()


def test_a_transaction_commits_records_and_positions_together(broker: Broker) -> None:
    topic, results, name = broker.topic(1), broker.topic(1), group()
    plain = broker.sink(name, None)
    plain.produce(records(topic, b"a", b"b"))
    plain.flush(10)
    source, _ = joined(broker, topic, name)
    (polled, *_) = read(source, 2)
    assert polled.membership is not None
    sink = broker.sink(name, f"{name}-p")
    sink.begin()
    sink.produce(records(results, b"A", b"B"))
    assert source.committed([(topic, 0)])[topic, 0].offset == 0
    sink.commit({(topic, 0): Commit(2)}, polled.membership, 10)
    assert source.committed([(topic, 0)])[topic, 0].offset == 2
    assert broker.broadcast(results).read_to_end(10).values == [b"A", b"B"]
    source.close()


def test_a_second_producer_with_the_same_id_fences_the_first(broker: Broker) -> None:
    topic, name = broker.topic(1), group()
    first = broker.sink(name, f"{name}-p")
    first.begin()
    first.produce(records(topic, b"zombie"))
    second = broker.sink(name, f"{name}-p")
    with pytest.raises(MillraceError) as caught:
        first.produce(records(topic, b"more"))
        first.flush(10)
        first.commit({}, b"CGMDv2:\x01\x00\x00\x00g\x00m\x00\x00", 10)
    assert isinstance(caught.value, Fenced | TransactionAborted)
    second.close()
    assert broker.broadcast(topic).read_to_end(10).values == []


class Loses:
    """A client whose next flush ends as one did in which a callback ran after the fatal error and cleared it."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def flush(self, limit_s: float) -> int:
        with suppress(KafkaException, SystemError):
            self._producer.flush(limit_s)
        raise SystemError("flush returned NULL without setting an exception")


@pytest.mark.real
@pytest.mark.parametrize("fenced", [True, False])
def test_a_fatal_error_that_a_callback_cleared_is_asked_for_again(servers: Servers, fenced: bool) -> None:
    broker = OnKafka(servers)
    topic, name = broker.topic(1), group()
    first = KafkaSink(servers.address, name)
    first.begin()
    first.produce(records(topic, b"a"))
    first.flush(10)
    if fenced:
        broker.sink(name, name).close()
        first.produce(records(topic, b"zombie"))
    first._built = Loses(first._producer)  # type: ignore[assignment]
    with pytest.raises(Fenced if fenced else SystemError):
        first.flush(10)


def test_a_late_member_cannot_commit_with_the_membership_of_its_poll(broker: Broker) -> None:
    topic, results, name = broker.topic(2), broker.topic(1), group()
    plain = broker.sink(name, None)
    plain.produce(records(topic, b"a"))
    plain.flush(10)
    late, _ = joined(broker, topic, name)
    (polled, *_) = read(late, 1)
    assert polled.membership is not None
    other = broker.source(name)
    other_follow = Follow(other)
    other.subscribe([topic], other_follow)
    for _ in range(100):
        late.poll(1, 0.05)
        other.poll(1, 0.05)
        if other_follow.assigned_ and other_follow.assigned_[-1]:
            break
    sink = broker.sink(name, f"{name}-p")
    sink.begin()
    sink.produce(records(results, b"A"))
    with pytest.raises(TransactionAborted):
        sink.commit({(topic, 0): Commit(1)}, polled.membership, 10)
    sink.abort(10)
    assert broker.broadcast(results).read_to_end(10).values == []
    late.close()
    other.close()


def test_the_membership_of_a_consumer_that_has_not_joined_is_refused_by_the_sink(broker: Broker) -> None:
    topic, name = broker.topic(1), group()
    sink = broker.sink(name, f"{name}-p")
    sink.begin()
    sink.produce(records(topic, b"A"))
    not_joined = b"-1/" if isinstance(broker, InMemory) else b"CGMDv2:\xff\xff\xff\xffg\x00\x00\x01"
    with pytest.raises(TransactionAborted, match="not joined"):
        sink.commit({(topic, 0): Commit(1)}, not_joined, 10)
    sink.abort(10)


def test_a_note_is_kept_with_the_position(broker: Broker) -> None:
    topic, name = broker.topic(1), group()
    plain = broker.sink(name, None)
    plain.produce(records(topic, b"a", b"b", b"c", b"d"))
    plain.flush(10)
    source, _ = joined(broker, topic, name)
    source.commit({(topic, 0): Commit(3, "claim=2")})
    assert source.committed([(topic, 0)])[topic, 0] == Commit(3, "claim=2")
    source.close()


def test_paused_partitions_give_nothing_and_seek_goes_back(broker: Broker) -> None:
    topic, name = broker.topic(1), group()
    plain = broker.sink(name, None)
    plain.produce(records(topic, b"a", b"b"))
    plain.flush(10)
    source, _ = joined(broker, topic, name)
    assert values(read(source, 2)) == [b"a", b"b"]
    source.pause([(topic, 0)])
    source.seek({(topic, 0): 1})
    assert values(read(source, 1, tries=3)) == []
    source.resume([(topic, 0)])
    assert values(read(source, 1)) == [b"b"]
    source.close()


def test_two_members_share_the_partitions_and_one_takes_over(broker: Broker) -> None:
    topic, name = broker.topic(4), group()
    first, first_follow = joined(broker, topic, name)
    assert len(first.assignment()) == 4
    second = broker.source(name)
    second.subscribe([topic], Follow(second))
    for _ in range(100):
        first.poll(1, 0.05)
        second.poll(1, 0.05)
        if len(first.assignment()) == len(second.assignment()) == 2:
            break
    assert first.assignment() | second.assignment() == {(topic, n) for n in range(4)}
    assert first_follow.revoked_
    first.close()
    for _ in range(100):
        second.poll(1, 0.05)
        if len(second.assignment()) == 4:
            break
    assert len(second.assignment()) == 4
    second.close()


def test_keys_go_where_javas_client_puts_them(broker: Broker) -> None:
    topic, name = broker.topic(7), group()
    keys: list[bytes | None] = [f"key-{i}".encode() for i in range(50)]
    sink = broker.sink(name, None)
    sink.produce(OutRecords(topic, keys, [b"v"] * 50, [[] for _ in keys]))
    sink.flush(10)
    polled = broker.broadcast(topic).read_to_end(10)
    placed = {key: place[1] for key, place in zip(polled.keys, polled.places, strict=True)}
    assert placed == {key: partition_of(key, 7) for key in keys}


def test_a_broadcast_is_read_whole_past_markers_and_then_followed(broker: Broker) -> None:
    topic, name = broker.topic(1), group()
    source, _ = joined(broker, topic, name)
    sink = broker.sink(name, f"{name}-p")
    for value in (b"1", b"2"):
        sink.begin()
        sink.produce(records(topic, value))
        sink.commit({(topic, 0): Commit(0)}, membership_of(source), 10)
    reader = broker.broadcast(topic)
    assert reader.read_to_end(10).values == [b"1", b"2"]
    plain = broker.sink(name, None)
    plain.produce(records(topic, b"3"))
    plain.flush(10)
    later: list[Any] = []
    for _ in range(100):
        later += reader.poll().values
        if later:
            break
        broker.clock.sleep(0.05)
    assert later == [b"3"]
    reader.close()
    source.close()


def test_the_generation_is_read_out_of_the_clients_metadata() -> None:
    assert generation_of(b"CGMDv2:\x05\x00\x00\x00group\x00member\x00") == 5
    assert generation_of(b"CGMDv2:\xff\xff\xff\xffgroup\x00\x00\x01") == -1
    assert generation_of(b"something else") == -1


def test_a_pause_outlives_a_change_of_the_group_until_it_is_resumed(broker: Broker) -> None:
    """Kafka's client keeps an application's pause across revocation and assignment (confluent-kafka-go#193,
    librdkafka#1849): who pauses has to resume whatever it is assigned."""
    topic, name = broker.topic(2), group()
    first, seen = joined(broker, topic, name)
    sink = broker.sink(name, None)
    for partition in range(2):
        sink.produce(records(topic, b"a", partition=partition))
    sink.flush(10)
    assert len(values(read(first, 2))) == 2
    first.pause(first.assignment())
    second, _ = joined_beside(broker, topic, name, first)
    second.close()
    for _ in range(200):
        first.poll(1, 0.05)
        if seen.assigned_[-1] == {(topic, 0), (topic, 1)}:
            break
    first.seek(dict.fromkeys(first.assignment(), 0))
    assert values(read(first, 1, tries=10)) == []
    first.resume(first.assignment())
    assert len(values(read(first, 2))) == 2
    first.close()
    sink.close()


def joined_beside(broker: Broker, topic: str, name: str, first: Source) -> tuple[Source, Follow]:
    """A second member that has partitions of its own, while the first goes on polling."""
    second = broker.source(name)
    follow = Follow(second)
    second.subscribe([topic], follow)
    for _ in range(200):
        first.poll(1, 0.05)
        second.poll(1, 0.05)
        if follow.assigned_ and follow.assigned_[-1]:
            return second, follow
    raise AssertionError("the second member got no partitions")


def unread(source: Source, positions: dict[Place, int]) -> dict[Place, int]:
    for _ in range(200):
        source.poll(1, 0.05)
        answer = source.unread(positions)
        if answer is not None:
            return answer
    raise AssertionError("the broker did not answer")


def test_what_lies_unread_is_told_and_markers_and_aborted_records_are_not_taken_for_it(broker: Broker) -> None:
    topic, name = broker.topic(2), group()
    source, _ = joined(broker, topic, name)
    place = (topic, 0)
    sink = broker.sink(name, f"tx-{name}")
    for value in (b"a", b"b"):
        sink.begin()
        sink.produce(records(topic, value))
        sink.flush(10)
        if value == b"a":
            membership = source.poll(1, 0.1).membership or membership_of(source)
            sink.commit({}, membership, 10)
        else:
            sink.abort(10)
    polled = read(source, 1)
    assert values(polled) == [b"a"]
    position = {place: polled[-1].offsets[-1] + 1, (topic, 1): 0}
    for _ in range(20):
        source.poll(1, 0.05)  # passes the markers
    assert unread(source, position) == {}
    source.seek({place: position[place]})
    for _ in range(20):
        source.poll(1, 0.05)
    assert unread(source, position) == {}, "after a seek the end is reached anew"
    source.pause([place])
    plain = broker.sink(name, None)
    plain.produce(records(topic, b"c"))
    plain.flush(10)
    told = unread(source, position)
    assert told.keys() == {place}
    assert told[place] > 0
    for closing in (source, sink, plain):
        closing.close()


def membership_of(source: Source) -> bytes:
    """As it is now; a source gives it away with records alone."""
    for _ in range(100):
        membership = source._membership() if isinstance(source, KafkaSource) else source.poll(1, 0.0).membership
        if membership is not None:
            return membership
    raise AssertionError("not a member")


def test_a_member_that_joined_anew_has_its_partitions_and_its_old_membership_commits_nothing(broker: Broker) -> None:
    topic, name = broker.topic(1), group()
    plain, sink = broker.sink(name, None), broker.sink(name, f"tx-{name}")
    source, follow = joined(broker, topic, name)
    old = membership_of(source)
    source.rejoin()
    for _ in range(200):
        source.poll(1, 0.05)
        if len(follow.assigned_) > 1 and follow.assigned_[-1]:
            break
    plain.produce(records(topic, b"a"))
    plain.flush(10)
    assert values(read(source, 1)) == [b"a"]
    sink.begin()
    with pytest.raises(TransactionAborted):
        sink.commit({(topic, 0): Commit(1)}, old, 10)
    sink.abort(10)
    for closing in (source, sink, plain):
        closing.close()
