"""The state of the in-memory broker: logs, transactions, groups. One lock protects it, so threads may share it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock

from schemas.errors import Fenced, TransactionAborted
from streams.broker import Commit
from streams.clock import Clock
from streams.headers import HeaderList
from streams.murmur2 import partition_of
from streams.rows import OutRecords, Place


@dataclass(slots=True)
class Entry:
    """One slot of a log. `transaction` is None outside a transaction; a marker is a slot that no reader sees."""

    key: bytes | None
    value: bytes | None
    headers: HeaderList  # as sent; Kafka accepts null values, and any bytes as names
    timestamp_ms: int
    transaction: Transaction | None = None
    marker: bool = False


@dataclass(slots=True, eq=False)
class Transaction:
    producer: str
    epoch: int
    opened_s: float = 0.0
    state: str = "open"  # open, committed, aborted
    places: set[Place] = field(default_factory=set)


@dataclass(slots=True)
class Member:
    name: str
    topics: tuple[str, ...]
    generation: int = -1
    assigned: set[Place] = field(default_factory=set)
    must_revoke: bool = False
    lost: bool = False


@dataclass(slots=True)
class Group:
    generation: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    committed: dict[Place, Commit] = field(default_factory=dict)
    rebalancing: bool = False


class MemoryBroker:
    """max_record_bytes: limit for key, value and headers together; `limits` overrides it for single topics.
    transaction_timeout_ms: a transaction that is open for longer is aborted and its producer fenced, as in Kafka."""

    def __init__(self, clock: Clock, max_record_bytes: int = 1024 * 1024, transaction_timeout_ms: int = 15_000) -> None:
        self.clock = clock
        self.max_record_bytes = max_record_bytes
        self.transaction_timeout_ms = transaction_timeout_ms
        self.limits: dict[str, int] = {}
        self.lock = RLock()
        self.logs: dict[Place, list[Entry]] = {}
        self.partitions: dict[str, int] = {}
        self.groups: dict[str, Group] = {}
        self.epochs: dict[str, int] = {}
        self.open: dict[str, Transaction] = {}
        self.refusing: set[str] = set()  # topics that accept no records, as if a disk were full
        self.queues: Callable[[], bool] = lambda: False  # whether a producer keeps what it got in its queue until its next record

    # --- topics -------------------------------------------------------------------------------------------------

    def create(self, topic: str, partitions: int) -> None:
        with self.lock:
            self.partitions[topic] = partitions
            for number in range(partitions):
                self.logs.setdefault((topic, number), [])

    def append(self, out: OutRecords, transaction: Transaction | None) -> None:
        """Raises TransactionAborted if the topic is unknown or refuses, has no such partition, or a record is too large."""
        with self.lock:
            count = self.partitions.get(out.topic)
            if count is None or out.topic in self.refusing:
                raise TransactionAborted(f"{out.topic} takes no records")
            partitions = out.partitions or [partition_of(key, count) for key in out.keys]
            limit = self.limits.get(out.topic, self.max_record_bytes)
            for key, value, headers, number in zip(out.keys, out.values, out.headers, partitions, strict=True):
                size = len(key or b"") + len(value or b"") + sum(len(name) + len(text or b"") for name, text in headers)
                if size > limit:
                    raise TransactionAborted(f"{out.topic}: a record has {size} bytes", unwritable=out.topic)
                place = (out.topic, partition_of(key, count) if number < 0 else number)
                if place not in self.logs:
                    raise TransactionAborted(f"{out.topic} has no partition {number}")
                self.logs[place].append(Entry(key, value, list(headers), self.clock.now_ms(), transaction))
                if transaction is not None:
                    transaction.places.add(place)

    def stable_end(self, place: Place) -> int:
        """The last stable offset: a read_committed reader stops at the first record of an open transaction."""
        log = self.logs[place]
        for offset, entry in enumerate(log):
            if entry.transaction is not None and entry.transaction.state == "open":
                return offset
        return len(log)

    def visible(self, place: Place, start: int, limit: int) -> list[tuple[int, Entry]]:
        found: list[tuple[int, Entry]] = []
        log = self.logs[place]
        for offset in range(start, self.stable_end(place)):
            entry = log[offset]
            if entry.marker or (entry.transaction is not None and entry.transaction.state == "aborted"):
                continue
            found.append((offset, entry))
            if len(found) == limit:
                break
        return found

    def records(self, topic: str) -> list[tuple[Place, int, Entry]]:
        """All records of a topic that a read_committed reader sees, for tests."""
        with self.lock:
            places = [place for place in self.logs if place[0] == topic]
            return [(place, o, e) for place in places for o, e in self.visible(place, 0, len(self.logs[place]))]

    # --- transactions -------------------------------------------------------------------------------------------

    def fence(self, producer: str) -> int:
        """Start a producer with this id: older ones are fenced, and their open transaction is aborted."""
        with self.lock:
            self.epochs[producer] = self.epochs.get(producer, -1) + 1
            left = self.open.pop(producer, None)
            if left is not None:
                self._end(left, "aborted")
            return self.epochs[producer]

    def begin(self, producer: str, epoch: int) -> Transaction:
        with self.lock:
            self._check(producer, epoch)
            self.open[producer] = Transaction(producer, epoch, self.clock.monotonic_s())
            return self.open[producer]

    def _check(self, producer: str, epoch: int) -> None:
        self.expire()
        if self.epochs.get(producer) != epoch:
            raise Fenced(f"another process runs with transactional id {producer}")

    def expire(self) -> None:
        """Abort transactions that have been open for too long."""
        with self.lock:
            for producer, transaction in list(self.open.items()):
                if (self.clock.monotonic_s() - transaction.opened_s) * 1000 > self.transaction_timeout_ms:
                    self.fence(producer)

    def abort(self, transaction: Transaction) -> None:
        with self.lock:
            self._check(transaction.producer, transaction.epoch)
            self.open.pop(transaction.producer, None)
            self._end(transaction, "aborted")

    def commit(
        self, transaction: Transaction, group: str, positions: Mapping[Place, Commit], member: str, generation: int
    ) -> None:
        with self.lock:
            self._check(transaction.producer, transaction.epoch)
            self.check_member(group, member, generation)
            self.groups[group].committed.update(positions)
            self.open.pop(transaction.producer, None)
            self._end(transaction, "committed")

    def commit_records(self, transaction: Transaction) -> None:
        with self.lock:
            self._check(transaction.producer, transaction.epoch)
            self.open.pop(transaction.producer, None)
            self._end(transaction, "committed")

    def _end(self, transaction: Transaction, state: str) -> None:
        transaction.state = state
        for place in transaction.places:
            self.logs[place].append(Entry(None, None, [], self.clock.now_ms(), transaction, marker=True))

    # --- groups -------------------------------------------------------------------------------------------------

    def check_member(self, group: str, member: str, generation: int) -> None:
        """Behaves like a classic group: accepts an unknown member without a generation (a gap that the loop must avoid), and
        refuses a member of an older generation. Raises TransactionAborted."""
        if generation < 0:
            return
        found = self.groups[group].members.get(member)
        if found is None or found.generation != generation or self.groups[group].generation != generation:
            raise TransactionAborted(f"generation {generation} of {member} is not the group's")

    def join(self, group: str, member: str, topics: Sequence[str]) -> None:
        with self.lock:
            self.groups.setdefault(group, Group()).members[member] = Member(member, tuple(topics))
            self._rebalance(group)

    def leave(self, group: str, member: str) -> None:
        with self.lock:
            self.groups[group].members.pop(member, None)
            self._rebalance(group)

    def expel(self, group: str, member: str) -> None:
        """Expel a member, as if its session had timed out: the group continues without it, and the member notices at its next
        poll."""
        with self.lock:
            gone = self.groups[group].members.pop(member)
            gone.lost = True
            self._rebalance(group)

    def _rebalance(self, group: str) -> None:
        state = self.groups[group]
        state.rebalancing = True
        for member in state.members.values():
            member.must_revoke = bool(member.assigned)
        self.settle(group)

    def settle(self, group: str) -> None:
        """Assign partitions after every member has revoked its own (eager protocol)."""
        state = self.groups[group]
        if not state.rebalancing or any(member.must_revoke for member in state.members.values()):
            return
        state.rebalancing = False
        state.generation += 1
        members = sorted(state.members.values(), key=lambda member: member.name)
        for member in members:
            member.generation = state.generation
            member.assigned = set()
        places = sorted({place for place in self.logs if any(place[0] in member.topics for member in members)})
        for i, place in enumerate(places):
            if members:
                members[i % len(members)].assigned.add(place)
