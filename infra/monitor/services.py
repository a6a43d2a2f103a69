"""The objects that the routes share: addresses of the servers, the watch, the listeners and the permissions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from fastapi import FastAPI

from infra.monitor.actions import Actions
from infra.monitor.reading.tails import Hub, Streams, Tails
from infra.monitor.turns import Reads, Shared
from infra.monitor.watching.sampler import Sampler
from infra.monitor.watching.story import Story
from infra.monitor.watching.watch import Watch
from infra.settings import StackSettings
from schemas.errors import InvalidRequest
from streams.clock import Clock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.rows import Place
from streams.schema_registry import Registry


@dataclass
class Monitor:
    """The objects that routes share. pages: the folder of the built front end, or None and the reason why it is missing."""

    settings: StackSettings
    address: KafkaAddress
    ids: Registry
    clock: Clock
    tokens: Mapping[str, str]
    pages: Path | None
    no_pages: str = ""
    bound: str = "127.0.0.1"
    story: Story = field(default_factory=Story)
    sampler: Sampler = field(init=False)
    watch: Watch = field(init=False)
    actions: Actions = field(init=False)
    hub: Hub = field(init=False)
    tails: Tails = field(init=False)
    streams: Streams = field(default_factory=Streams)
    shared: Shared = field(init=False)
    reads: Reads = field(default_factory=Reads)

    def __post_init__(self) -> None:
        self.sampler = Sampler(self.settings, self.address, self.clock, self.story)
        self.watch = Watch(self.settings, self.address, self.ids, self.clock, self.story, self.sampler)
        self.actions = Actions(self.settings, self.address, self.ids, self.clock, self.story)
        self.shared = Shared(self.clock)

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        self.hub, self.tails = Hub(loop), Tails(loop, self.address, self.ids, self.clock)
        stopping = Event()
        thread = Thread(target=self.watch.run, args=(stopping, self.hub.publish_last), name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            self.tails.close()
            self.shared.close()
            await asyncio.to_thread(self.actions.close)
            await asyncio.to_thread(thread.join, 10.0)

    def end_streams(self) -> None:
        """Call before the server stops, from any thread, because the server waits for its open streams."""
        self.hub.close()
        self.tails.close()

    def bounds(self, topic: str) -> dict[Place, tuple[int, int]]:
        """First offset and end, read now. Raises InvalidRequest for an unknown topic."""
        admin = KafkaAdmin(self.address)
        n = admin.partitions().get(topic)
        if n is None:
            raise InvalidRequest(f"there is no topic {topic}")
        places = [(topic, number) for number in range(n)]
        firsts, ends = admin.firsts(places), admin.ends(places)
        return {place: (firsts[place], ends[place]) for place in places}
