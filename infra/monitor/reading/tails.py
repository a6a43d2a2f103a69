"""Streams that go to many listeners: the snapshot, and live tails of topics. Each topic has one reader regardless of the
number of listeners. A slow listener misses records, receives their number, and never delays anybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any

from infra.monitor.plain import as_json
from infra.monitor.reading.browse import message
from infra.monitor.reading.record_filter import Keep, Message
from infra.monitor.turns import TooMany
from schemas.codec import SchemaIds
from schemas.errors import MillraceError
from streams.clock import Clock
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress

MOST_LISTENERS = 1_000
MOST_TAILS = 16
TAIL_PER_S = 200  # records shown per tail; people read more slowly than that
ROOM = 256
SNAPSHOTS_ROOM = 2  # an old snapshot has no value
QUIET_S = 15.0
IDLE_S = 5.0
END = b"end"


@dataclass(eq=False)
class Listener:
    """keep: for a tail, the filter of its records. task: the task that sends to this listener, once it has started."""

    keep: Keep | None = None
    queue: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(ROOM))
    missed: int = 0
    task: asyncio.Task[Any] | None = None

    def offer(self, event: bytes) -> None:
        if self.queue.full():
            self.queue.get_nowait()
            self.missed += 1
        self.queue.put_nowait(event)


class Streams:
    """All listeners, by client. If there are MOST_LISTENERS, a new listener replaces the oldest one of the client with the
    most. So one client with a thousand streams keeps nobody out, and a browser whose stream ends reconnects by itself. Runs on
    the server's thread."""

    def __init__(self, most: int = MOST_LISTENERS) -> None:
        self._most = most
        self._mine: dict[str, list[Listener]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._mine.values()))

    def admit(self, client: str, listener: Listener) -> None:
        if len(self) >= self._most:
            oldest = max(self._mine.values(), key=len).pop(0)
            if oldest.task is not None:
                oldest.task.cancel()  # a listener that reads nothing would not see an end that waits in its queue
            else:
                oldest.offer(END)
        self._mine.setdefault(client, []).append(listener)

    async def until_gone(self, client: str, listener: Listener, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yields the same events and frees the place afterwards."""
        listener.task = asyncio.current_task()
        try:
            async for event in events:
                yield event
        finally:
            left = [one for one in self._mine.pop(client, []) if one is not listener]
            if left:
                self._mine[client] = left


class Hub:
    """The listeners of one stream of events. All methods except `publish` run on the server's own thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.listeners: set[Listener] = set()
        self._closed = False
        self.last: bytes | None = None  # for snapshots: a new listener gets it immediately

    def publish(self, event: bytes) -> None:
        """May be called from any thread."""
        self._loop.call_soon_threadsafe(self._give, event)

    def publish_last(self, event: bytes) -> None:
        """Publishes, and keeps the event for later listeners."""
        self.last = event
        self.publish(event)

    def close(self) -> None:
        """Ends every stream; may be called from any thread. So a stopping server need not abort them."""
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._closed = True
        for listener in self.listeners:
            listener.offer(END)

    def _give(self, event: bytes) -> None:
        for listener in self.listeners:
            listener.offer(event)

    async def events(self, listener: Listener) -> AsyncIterator[bytes]:
        """Server-sent events, with a comment after QUIET_S without an event, until the caller leaves."""
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
    """One reader for each topic with listeners, as long as there are any."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: KafkaAddress, ids: SchemaIds, clock: Clock) -> None:
        self._loop, self._address, self._ids, self._clock = loop, address, ids, clock
        self._hubs: dict[str, Hub] = {}
        self._lock, self._ending = Lock(), Event()

    def listeners(self) -> int:
        return sum(len(hub.listeners) for hub in self._hubs.values())

    def open(self, topic: str) -> Hub:
        """Raises TooMany if MOST_TAILS other topics are tailed already."""
        with self._lock:
            if topic not in self._hubs:
                if len(self._hubs) >= MOST_TAILS:
                    raise TooMany(f"{MOST_TAILS} topics are tailed already: close one of them")
                hub = self._hubs[topic] = Hub(self._loop)
                Thread(target=self._run, args=(topic, hub), name=f"tail-{topic}", daemon=True).start()
            return self._hubs[topic]

    def close(self) -> None:
        self._ending.set()

    def _run(self, topic: str, hub: Hub) -> None:
        """Runs until there was no listener for IDLE_S, or the topic cannot be read. In the second case the streams end, and
        browsers reconnect."""
        try:
            self._read(topic, hub)
        except MillraceError as error:
            hub.publish(as_json({"trouble": str(error)}))
        finally:
            with self._lock:
                del self._hubs[topic]
            hub.close()

    def _read(self, topic: str, hub: Hub) -> None:
        reader = KafkaBroadcast(self._address, topic, self._clock, "end")
        try:
            second, shown, skipped, listened_s = 0, 0, 0, self._clock.monotonic_s()
            while not self._ending.is_set():
                polled, now_s = reader.wait(0.1), self._clock.monotonic_s()
                listened_s = now_s if hub.listeners else listened_s
                if now_s - listened_s > IDLE_S:
                    return
                if int(now_s) != second:
                    if skipped:
                        hub.publish(as_json({"skipped": skipped}))
                    second, shown, skipped = int(now_s), 0, 0
                for i in range(min(len(polled), TAIL_PER_S - shown)):
                    self._loop.call_soon_threadsafe(_offer, hub, message(polled, i, self._ids))
                skipped += max(0, len(polled) - (TAIL_PER_S - shown))
                shown = min(TAIL_PER_S, shown + len(polled))
        finally:
            reader.close()


def _offer(hub: Hub, record: Message) -> None:
    event = as_json({"record": vars(record)})
    for listener in hub.listeners:
        if listener.keep is None or listener.keep(record):
            listener.offer(event)
