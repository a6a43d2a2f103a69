"""Derived views in Faust: strikes per author, trending items, records per minute and topic. The only module that imports faust.

No other process depends on this one. Each process reads the topics in its own group and keeps the views in memory. So a killed
process is complete again when it has read the topics again, no partition moves between processes, and each process serves all
views. (Faust's tables were tried instead: after a rebalance two workers disagreed, docs/adr/0012.) Strikes read all of
`content-actions-v1`, the other views the last two hours. By default Faust also reads records of aborted transactions; here it
reads only committed records, and counts each once, even if the group goes back to an older commit.

`python -m processors.views.faust_views worker --web-port N`, then `GET /strikes/AUTHOR`, `/trending?minutes=60&limit=20`,
`/counts`.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from dataclasses import asdict
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver

from processors.settings import ViewSettings
from processors.views import strikes
from processors.views.windows import Minutes, Positions, trending
from schemas.catalogue import catalogue
from schemas.durations import HOUR_MS, MINUTE_MS
from schemas.errors import RetryLater
from schemas.topics import CONTENT_ACTIONS, REPLIES, USER_EVENTS_VALID
from streams.clock import SystemClock
from streams.headers import whole
from streams.ids import uuid7
from streams.kafka.admin import KafkaAdmin
from streams.kafka.config import KafkaAddress
from streams.process.settings import load
from streams.readable import Readable
from streams.rows import Polled
from streams.schema_registry import Registry

SETTINGS, CLOCK = load(ViewSettings, os.environ), SystemClock()
GROUP = f"millrace-views-{uuid7(CLOCK.now_ms())}"
WINDOW_MINUTES = 60  # longest window of trends, each of which is compared with the window before it
# Events may be an hour ahead of the broker's clock, so the views read one hour more than they count.
READ_MS = 2 * WINDOW_MINUTES * MINUTE_MS + HOUR_MS
COUNTED = [topic for topic in catalogue().topics if topic.partitions > 1 and not topic.compacted and topic is not REPLIES]


class _CommittedThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # the fetcher starts with this value
        return consumer


class _CommittedConsumer(driver.Consumer):
    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)


class _CommittedTransport(driver.Transport):
    Consumer = _CommittedConsumer


app = faust.App(
    GROUP,
    broker=f"kafka://{SETTINGS.bootstrap}",
    value_serializer="raw",
    datadir=SETTINGS.views_folder,
    topic_partitions=CONTENT_ACTIONS.partitions,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    broker_session_timeout=10.0,
    broker_heartbeat_interval=3.0,
    web_bind="127.0.0.1",
    web_host="127.0.0.1",
)
app.transport = _CommittedTransport([app.conf.broker[0]], app, app.loop)

registry = Registry(SETTINGS.registry)
topics = app.topic(
    *(topic.name for topic in COUNTED), key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
)
positions = Positions()
by_author: defaultdict[str, list[str]] = defaultdict(list)
items, counts = Minutes(2 * WINDOW_MINUTES), Minutes(WINDOW_MINUTES)
read: defaultdict[str, int] = defaultdict(int)


@app.agent(topics)
async def take(stream: Any) -> None:
    async for event in stream.events():
        message = event.message
        if not positions.is_new(message.topic, message.partition, message.offset):
            continue
        read[message.topic] += 1
        now_ms = CLOCK.now_ms()
        counts.add(message.topic, int(message.timestamp * 1000), now_ms)
        readable = seen.get(message.topic)
        if readable is not None:
            polled = Polled([(message.topic, message.partition)], [message.offset], [None], [event.value], [None], [now_ms])
            await settled(readable, polled)


async def settled(readable: Readable[None], polled: Polled) -> None:
    """Waits for the registry, because a record that a view skips would be missing until the process restarts."""
    while True:
        try:
            readable.of(polled)
            return
        except RetryLater:
            await asyncio.sleep(1.0)


def acted(action: dict[str, Any]) -> None:
    author = action["author_id"]
    if author:
        by_author[author] = strikes.after(by_author[author], action)


def happened(event: dict[str, Any]) -> None:
    if event["item_id"]:
        items.add(event["item_id"], event["event_ms"], CLOCK.now_ms())


seen = {
    CONTENT_ACTIONS.name: Readable(CONTENT_ACTIONS, registry, acted),
    USER_EVENTS_VALID.name: Readable(USER_EVENTS_VALID, registry, happened),
}


@app.page("/strikes/{author}")
async def of_author(web: Any, request: Any, author: str) -> Any:
    """The ids that count against an author. Incomplete while the topic is read after a start; actions_read is the number of
    actions read so far."""
    content_ids = by_author.get(author, [])
    return web.json(
        {
            "author_id": author,
            "strikes": len(content_ids),
            "content_ids": content_ids,
            "actions_read": read[CONTENT_ACTIONS.name],
        }
    )


@app.page("/trending")
async def of_items(web: Any, request: Any) -> Any:
    """The items whose events increased most in the last minutes, compared with the same number of minutes before."""
    minutes = _number(request, "minutes", WINDOW_MINUTES, WINDOW_MINUTES)
    now_ms = CLOCK.now_ms()
    trends = trending(
        items.total(now_ms, minutes), items.total(now_ms, minutes, ago=minutes), _number(request, "limit", 20, 1000)
    )
    return web.json(
        {"minutes": minutes, "items": [asdict(trend) for trend in trends], "events_read": read[USER_EVENTS_VALID.name]}
    )


@app.page("/counts")
async def of_topics(web: Any, request: Any) -> Any:
    """Committed records of each topic in each of the last minutes, by the broker's clock, oldest first."""
    return web.json({"minutes": WINDOW_MINUTES, "counts": counts.series(CLOCK.now_ms())})


def _number(request: Any, name: str, default: int, maximum: int) -> int:
    """A query parameter, at least 1 and limited to `maximum`; the default if it is not such a number."""
    number = whole(request.query.get(name, "").encode(), 1)
    return default if number is None else min(number, maximum)


def start_positions() -> None:
    """Start all topics except the actions READ_MS ago, not at their first record. Raises BrokerUnavailable."""
    admin = KafkaAdmin(KafkaAddress(bootstrap=SETTINGS.bootstrap))
    places = [(t.name, number) for t in COUNTED if t is not CONTENT_ACTIONS for number in range(t.partitions)]
    admin.set_positions(GROUP, admin.offsets_at(places, CLOCK.now_ms() - READ_MS))


if __name__ == "__main__":
    start_positions()
    app.main()
