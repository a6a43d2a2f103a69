"""What is sent to many at once: the snapshot, and live tails of topics. One reader a topic however many look; who is slow misses
records and is told how many, and never makes anybody wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any

from infra.monitor.browse import Keep, plain
from infra.records import decoded_one
from schemas.codec import SchemaIds
from schemas.errors import MillraceError, Stop
from streams.clock import Clock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress

MOST_LISTENERS = 1_000
MOST_TAILS = 16
TAIL_PER_S = 200  # records shown of one tail; people read slower than that
ROOM = 256
SNAPSHOTS_ROOM = 2  # an old snapshot is worth nothing
QUIET_S = 15.0
END = b"end"


class TooMany(Stop):
    code = "too-many"


@dataclass(eq=False)
class Listener:
    """keep: of a tail, which records are wanted."""

    keep: Keep | None = None
    queue: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(ROOM))
    missed: int = 0

    def offer(self, event: bytes) -> None:
        if self.queue.full():
            self.queue.get_nowait()
            self.missed += 1
        self.queue.put_nowait(event)


class Hub:
    """Who listens to one stream of events. All but `publish` on the server's own thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.listeners: set[Listener] = set()
        self._closed = False
        self.last: bytes | None = None  # of snapshots: whoever comes gets it at once

    def publish(self, event: bytes) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._give, event)

    def publish_last(self, event: bytes) -> None:
        """The same, kept for those who come later."""
        self.last = event
        self.publish(event)

    def close(self) -> None:
        """Every stream ends, from any thread: a server that stops need not cut them."""
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._closed = True
        for listener in self.listeners:
            listener.offer(END)

    def _give(self, event: bytes) -> None:
        for listener in self.listeners:
            listener.offer(event)

    async def events(self, listener: Listener) -> AsyncIterator[bytes]:
        """Server-sent events, a comment where QUIET_S pass without one, until the caller leaves."""
        self.listeners.add(listener)
        try:
            yield b"retry: 2000\n\n"
            if self.last is not None:
                yield b"data: " + self.last + b"\n\n"
            while not self._closed:
                try:
                    event = await asyncio.wait_for(listener.queue.get(), QUIET_S)
                except TimeoutError:
                    yield b": quiet\n\n"
                    continue
                if event is END:
                    return
                if listener.missed:
                    yield b"event: missed\ndata: %d\n\n" % listener.missed
                    listener.missed = 0
                yield b"data: " + event + b"\n\n"
        finally:
            self.listeners.discard(listener)


class Tails:
    """A reader for each topic that somebody watches, for as long as somebody does."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: KafkaAddress, ids: SchemaIds, clock: Clock) -> None:
        self._loop, self._address, self._ids, self._clock = loop, address, ids, clock
        self._hubs: dict[str, tuple[Hub, Event]] = {}
        self._lock = Lock()

    def listeners(self) -> int:
        return sum(len(hub.listeners) for hub, _ in self._hubs.values())

    def open(self, topic: str) -> Hub:
        """Raises TooMany where MOST_TAILS other topics are tailed already."""
        with self._lock:
            if topic not in self._hubs:
                if len(self._hubs) >= MOST_TAILS:
                    raise TooMany(f"{MOST_TAILS} topics are tailed already: close one of them")
                hub, ending = Hub(self._loop), Event()
                self._hubs[topic] = (hub, ending)
                Thread(target=self._read, args=(topic, hub, ending), name=f"tail-{topic}", daemon=True).start()
            return self._hubs[topic][0]

    async def events(self, topic: str, listener: Listener) -> AsyncIterator[bytes]:
        hub = self.open(topic)
        try:
            async for event in hub.events(listener):
                yield event
        finally:
            with self._lock:
                found = self._hubs.get(topic)
                if found is not None and found[0] is hub and not hub.listeners - {listener}:
                    del self._hubs[topic]
                    found[1].set()

    def close(self) -> None:
        with self._lock:
            for hub, ending in self._hubs.values():
                hub.close()
                ending.set()
            self._hubs.clear()

    def _read(self, topic: str, hub: Hub, ending: Event) -> None:
        try:
            reader = KafkaBroadcast(self._address, topic, self._clock, "end")
        except MillraceError as error:
            hub.publish(_json({"trouble": str(error)}))
            return
        try:
            second, shown, skipped = 0, 0, 0
            while not ending.is_set():
                polled = reader.wait(0.1)
                for i in range(len(polled)):
                    now = int(self._clock.monotonic_s())
                    if now != second:
                        if skipped:
                            hub.publish(_json({"skipped": skipped}))
                        second, shown, skipped = now, 0, 0
                    if shown >= TAIL_PER_S:
                        skipped += 1
                        continue
                    shown += 1
                    record = plain(decoded_one(polled, i, self._ids) | {"bytes": len(polled.values[i] or b"")})
                    self._loop.call_soon_threadsafe(_offer, hub, record)
        except MillraceError as error:
            hub.publish(_json({"trouble": str(error)}))
        finally:
            reader.close()


def _offer(hub: Hub, record: dict[str, Any]) -> None:
    event = _json({"record": record})
    for listener in hub.listeners:
        if listener.keep is None or listener.keep(record):
            listener.offer(event)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
