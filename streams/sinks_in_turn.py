"""Transactional producers that take turns, so that a transaction does not wait for the markers of the one before it.

A producer whose last transaction is committed but not all of whose markers are written yet is refused its next one
(CONCURRENT_TRANSACTIONS), and the client then waits a fixed 20 ms. Another producer has no such wait. ADR 0025 says why this
keeps exactly once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from streams.broker import Commit, Sink
from streams.rows import OutRecords, Place

TURNS = 3


def sink_of_loop(sink: Callable[[str | None], Sink], transactional_id: str | None) -> Sink:
    """The sink of a loop. transactional_id: stable for a worker slot; None for a loop without transactions. The first producer has
    this id; the ids of the others have a slash, which is in no name of a host or slot."""
    if transactional_id is None:
        return sink(None)
    ids = [transactional_id, *(f"{transactional_id}/{turn}" for turn in range(2, TURNS + 1))]
    with ThreadPoolExecutor(TURNS, "producer") as pool:  # each waits for its coordinator, a few hundred milliseconds
        return SinksInTurn(list(pool.map(sink, ids)))


class SinksInTurn(Sink):
    """A transaction may begin while the one before it is being committed on another thread. Commits are made in the order in which
    their transactions began, one at a time. sinks: at least two, each with a transactional id of its own."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)
        self._turn = 0
        self._open: deque[Sink] = deque()  # those with a transaction, oldest first
        self.transaction_limit_s = min(sink.transaction_limit_s for sink in self._sinks)

    def begin(self) -> None:
        self._turn = (self._turn + 1) % len(self._sinks)
        sink = self._sinks[self._turn]
        assert sink not in self._open, "fewer transactions are open than there are producers"
        sink.begin()
        self._open.append(sink)

    def produce(self, out: OutRecords) -> None:
        self._open[-1].produce(out)

    def flush(self, limit_s: float) -> None:
        self._open[-1].flush(limit_s)

    def commit(self, positions: Mapping[Place, Commit], membership: bytes, limit_s: float) -> None:
        """Commit the oldest transaction. If that fails, those that began after it must be aborted with it."""
        self._open[0].commit(positions, membership, limit_s)
        self._open.popleft()

    def abort(self, limit_s: float) -> None:
        """Abort all transactions, newest first."""
        while self._open:
            self._open[-1].abort(limit_s)
            self._open.pop()

    def rebuild(self) -> None:
        """Replaces all producers: a process that took one transactional id has the others too."""
        self._open.clear()
        for sink in self._sinks:
            sink.rebuild()

    def failed_topics(self) -> set[str]:
        return set[str]().union(*(sink.failed_topics() for sink in self._sinks))

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
