"""Source, sink and broadcast of the in-memory broker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

from schemas.errors import Fenced, TransactionAborted
from streams.broker import Commit, Listener
from streams.headers import readable
from streams.memory.cluster import Entry, Group, MemoryBroker, Transaction
from streams.rows import OutRecords, Place, Polled, in_range

_names = count()


def membership(member: str, generation: int) -> bytes:
    return f"{generation}/{member}".encode()


class MemorySource:
    commits_on_revoke = True

    def __init__(self, broker: MemoryBroker, group: str) -> None:
        self._broker = broker
        self._group = group
        self.name = f"member-{next(_names):04d}"
        self._listener: Listener | None = None
        self._topics: tuple[str, ...] = ()
        self._held: set[Place] = set()
        self._generation = -1
        self._positions: dict[Place, int] = {}
        self._paused: set[Place] = set()

    @property
    def generation(self) -> int:
        return self._generation

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None:
        self._listener = listener
        self._topics = tuple(topics)
        self._broker.join(self._group, self.name, topics)

    def poll(self, max_records: int, wait_s: float) -> Polled:
        self._rebalance()
        polled = Polled(membership=membership(self.name, self._generation) if self._generation >= 0 else None)
        with self._broker.lock:
            for place in sorted(self._held - self._paused):
                for offset, entry in self._broker.visible(place, self._positions[place], max_records - len(polled)):
                    _append(polled, place, offset, entry)
                    self._positions[place] = offset + 1
                if len(polled) >= max_records:
                    break
        if not len(polled):
            self._broker.clock.sleep(wait_s)
        return polled

    def rejoin(self) -> None:
        self._leave()
        self._generation = -1
        self._broker.join(self._group, self.name, self._topics)

    def _rebalance(self) -> None:
        assert self._listener is not None
        member = self._broker.groups[self._group].members.get(self.name)
        if member is None:
            lost, self._generation = self._held, -1
            if lost:
                self._listener.revoked(sorted(lost), lost=True)
            self._held = set()
            self._broker.join(self._group, self.name, self._topics)
            member = self._broker.groups[self._group].members[self.name]
        if member.must_revoke:
            self._listener.revoked(sorted(self._held), lost=False)
            self._held = set()
            member.must_revoke = False
            self._broker.settle(self._group)
        if member.generation != self._generation and not self._broker.groups[self._group].rebalancing:
            self._generation = member.generation
            self._held = set(member.assigned)  # paused partitions stay paused, as in Kafka's client
            self._listener.assigned(sorted(self._held))

    def assignment(self) -> set[Place]:
        return set(self._held)

    def committed(self, places: Iterable[Place]) -> dict[Place, Commit]:
        found = self._broker.groups[self._group].committed
        return {place: found.get(place, Commit(0)) for place in places}

    def commit(self, positions: Mapping[Place, Commit]) -> None:
        with self._broker.lock:
            self._broker.check_member(self._group, self.name, self._generation)
            self._broker.groups[self._group].committed.update(positions)

    def unread(self, positions: Mapping[Place, int]) -> dict[Place, int] | None:
        with self._broker.lock:
            found = {place: len(self._broker.visible(place, position, 1)) for place, position in positions.items()}
        return {place: n for place, n in found.items() if n}

    def seek(self, positions: Mapping[Place, int]) -> None:
        self._positions.update(positions)

    def pause(self, places: Iterable[Place]) -> None:
        self._paused.update(places)

    def resume(self, places: Iterable[Place]) -> None:
        self._paused.difference_update(places)

    def close(self) -> None:
        if self.name in self._broker.groups.get(self._group, _NO_GROUP).members:
            self._leave()

    def _leave(self) -> None:
        if self._held and self._listener is not None:
            self._listener.revoked(sorted(self._held), lost=False)
        self._held = set()
        self._broker.leave(self._group, self.name)


class MemorySink:
    def __init__(self, broker: MemoryBroker, group: str, transactional_id: str | None) -> None:
        self._broker = broker
        self._group = group
        self._id = transactional_id
        self._failed: set[str] = set()
        self.queue: list[OutRecords] = []
        self._transaction: Transaction | None = None
        self._epoch = 0
        self.transaction_limit_s = broker.transaction_timeout_ms / 1000
        self.rebuild()

    def rebuild(self) -> None:
        self._transaction = None
        self.queue.clear()
        if self._id is not None:
            self._epoch = self._broker.fence(self._id)

    def produce(self, out: OutRecords) -> None:
        if self._id is not None:
            if self._transaction is None:
                raise TransactionAborted("no transaction is open")
            self._broker.expire()
            if self._broker.epochs[self._id] != self._epoch:
                raise Fenced(
                    f"another process runs with transactional id {self._id}, or a transaction was open past its time-out"
                )
        if out.partitions is not None:
            out = replace(out, partitions=in_range(out.partitions, self._broker.partitions.get(out.topic, 0)))
        self.queue.append(out)
        if not self._broker.queues():
            self.flush(0)

    def flush(self, limit_s: float) -> None:
        queue, self.queue = self.queue, []
        for out in queue:
            try:
                self._broker.append(out, self._transaction)
            except TransactionAborted:
                self._failed.add(out.topic)
                raise

    def begin(self) -> None:
        assert self._id is not None
        self._transaction = self._broker.begin(self._id, self._epoch)

    def commit(self, positions: Mapping[Place, Commit], membership: bytes, limit_s: float) -> None:
        generation, _, member = membership.decode().partition("/")
        if int(generation) < 0:
            raise TransactionAborted("the consumer has not joined the group; its metadata fences nothing")
        assert self._transaction is not None
        self.flush(limit_s)
        self._broker.commit(self._transaction, self._group, positions, member, int(generation))
        self._transaction = None

    def commit_records(self, limit_s: float) -> None:
        assert self._transaction is not None
        self.flush(limit_s)
        self._broker.commit_records(self._transaction)
        self._transaction = None

    def abort(self, limit_s: float) -> None:
        self.queue.clear()
        if self._transaction is not None:
            transaction, self._transaction = self._transaction, None
            self._broker.abort(transaction)

    def failed_topics(self) -> set[str]:
        failed, self._failed = self._failed, set()
        return failed

    def close(self) -> None:
        self.abort(0)


class MemoryBroadcast:
    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self._broker = broker
        self._positions = {place: 0 for place in broker.logs if place[0] == topic}

    def read_to_end(self, limit_s: float) -> Polled:
        return self.poll()

    def parts_to_end(self, limit_s: float) -> Iterator[Polled]:
        yield self.poll()

    def poll(self) -> Polled:
        polled = Polled()
        with self._broker.lock:
            for place, position in self._positions.items():
                for offset, entry in self._broker.visible(place, position, 1_000_000):
                    _append(polled, place, offset, entry)
                    self._positions[place] = offset + 1
        return polled

    def close(self) -> None:
        return


def _append(polled: Polled, place: Place, offset: int, entry: Entry) -> None:
    polled.places.append(place)
    polled.offsets.append(offset)
    polled.keys.append(entry.key)
    polled.values.append(entry.value)
    polled.headers += readable([lambda: [(_name(name), value) for name, value in entry.headers]])
    polled.timestamps_ms.append(entry.timestamp_ms)


def _name(name: str | bytes) -> str:
    """Kafka treats names as bytes, so a producer of another library may write any bytes."""
    return name if isinstance(name, str) else name.decode()


_NO_GROUP = Group()
