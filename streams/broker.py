"""The seam between the loop and a broker. Kafka (`streams/kafka/`) and the in-memory broker (`streams/memory/`)
keep it under one contract suite (`tests/contract/test_broker.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.rows import OutRecords, Place, Polled


@dataclass(frozen=True, slots=True)
class Commit:
    """A committed position: the next offset to read, and a note kept with it."""

    offset: int
    note: str = ""


class Listener(Protocol):
    """What a source calls inside `poll`, on the caller's thread, when the group's assignment changes."""

    def assigned(self, places: Sequence[Place]) -> None: ...

    def revoked(self, places: Sequence[Place], *, lost: bool) -> None:
        """lost: somebody else may own them already, so nothing of them can be committed any more."""
        ...


class Source(Protocol):
    """A member of a consumer group."""

    @property
    def commits_on_revoke(self) -> bool:
        """True where, inside `Listener.revoked`, the generation of the polled records is still the group's
        (classic eager protocol). In cooperative ones it is already new, and a commit would be refused."""
        ...

    @property
    def generation(self) -> int:
        """Of the group (or member epoch), as far as this member knows: whoever owns a partition later has a higher one. -1 where it has
        not joined."""
        ...

    def subscribe(self, topics: Sequence[str], listener: Listener) -> None: ...

    def rejoin(self) -> None:
        """Leave the group and join it again: requests sent under the old membership are refused from then on."""
        ...

    def poll(self, max_records: int, wait_s: float) -> Polled:
        """Wait for the first record only, then take what is there. Raises BrokerUnavailable on a fatal error, and
        TransactionAborted where the log was cut under the reader."""
        ...

    def assignment(self) -> set[Place]: ...

    def committed(self, places: Iterable[Place]) -> dict[Place, Commit]:
        """Committed positions; a place without one is at its first offset. Raises BrokerUnavailable."""
        ...

    def commit(self, positions: Mapping[Place, Commit]) -> None:
        """Outside any transaction. Raises TransactionAborted where the group refuses it; indefinite where the broker may
        still do it."""
        ...

    def unread(self, positions: Mapping[Place, int]) -> dict[Place, int] | None:
        """How many offsets lie between what was read (`positions`) and the end of what is committed, of each place that was
        not read to its end; markers and aborted records count only until they were passed. Does not wait: None until the
        broker has answered, so call again. Raises BrokerUnavailable."""
        ...

    def seek(self, positions: Mapping[Place, int]) -> None: ...

    def pause(self, places: Iterable[Place]) -> None:
        """Outlives the assignment: a place that is taken away and comes back is still paused."""
        ...

    def resume(self, places: Iterable[Place]) -> None: ...

    def close(self) -> None:
        """Leave the group; calls `Listener.revoked` for what is assigned."""
        ...


class Sink(Protocol):
    """A producer. A transactional one gets `begin`, any number of `produce`, then `commit` or `abort`.

    transaction_limit_s: the broker aborts a transaction that is open for longer, and the next call raises Fenced.
    """

    transaction_limit_s: float

    def produce(self, out: OutRecords) -> None:
        """Queue records; bounded, and waits where the queue is full. Partition numbers that the topic does not have go round and
        round in those it has. Raises TransactionAborted."""
        ...

    def flush(self, limit_s: float) -> None:
        """Wait until all that was produced is acknowledged. Raises TransactionAborted where it was not."""
        ...

    def begin(self) -> None: ...

    def commit(self, positions: Mapping[Place, Commit], membership: bytes, limit_s: float) -> None:
        """Commit records and positions together. `membership` is the one polled with the oldest record.

        Raises TransactionAborted (nothing was committed, or, if indefinite, it is unknown), Fenced.
        """
        ...

    def abort(self, limit_s: float) -> None: ...

    def rebuild(self) -> None:
        """Replace the producer: the only safe way on after an indefinite error. Ends what the old one left open. Raises
        BrokerUnavailable where no new one can be started; it may then be called again."""
        ...

    def failed_topics(self) -> set[str]:
        """Topics whose records could not be delivered since the last call."""
        ...

    def close(self) -> None: ...


class Broadcast(Protocol):
    """All records of a topic, for every process alike: no group, no commits."""

    def read_to_end(self, limit_s: float) -> Polled:
        """All records up to the current end. Raises BrokerUnavailable if that takes longer than the limit."""
        ...

    def poll(self) -> Polled:
        """New records, without waiting. Raises BrokerUnavailable if the topic was truncated below the reader's position."""
        ...

    def close(self) -> None: ...
