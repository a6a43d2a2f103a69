"""Derived views in Faust: strikes per author. The only module that imports faust.

Nothing that matters depends on this process, and it depends on nothing but `content-actions-v1`: each process reads the
whole topic in a group of its own and keeps the view in memory, so a killed one is right again when it has read it anew,
no partition ever moves between processes, and each answers for every author. (Faust's tables were tried in its place: after
a rebalance two workers did not agree, docs/adr/0012.) Faust's default reads records of aborted transactions, too; here it
reads committed ones only.

`python -m processors.views worker --web-port N`, then `GET /strikes/AUTHOR`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver

from processors import strikes
from processors.settings import ProcessorSettings
from schemas.codec import read_any
from schemas.errors import UndecodableRecord
from schemas.topics import CONTENT_ACTIONS
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.registry import Registry
from streams.settings import load

SETTINGS = load(ProcessorSettings, os.environ)


class _CommittedThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # what the fetcher is started with
        return consumer


class _CommittedConsumer(driver.Consumer):
    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)


class _CommittedTransport(driver.Transport):
    Consumer = _CommittedConsumer


app = faust.App(
    f"millrace-view-strikes-{uuid7(SystemClock().now_ms())}",  # a group of its own: it reads from the first record
    broker=f"kafka://{SETTINGS.bootstrap}",
    value_serializer="raw",
    datadir=os.environ.get("MILLRACE_VIEWS_FOLDER", ".faust"),
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
actions = app.topic(CONTENT_ACTIONS.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
by_author: defaultdict[str, list[str]] = defaultdict(list)
read = {"actions": 0}


@app.agent(actions)
async def count(stream: Any) -> None:
    async for value in stream:
        read["actions"] += 1
        try:
            action = read_any(value, registry)
        except UndecodableRecord:
            continue  # the loop wrote it, so it cannot be; a view does not stop for it
        author = action["author_id"]
        if author:
            by_author[author] = strikes.after(by_author[author], action)


@app.page("/strikes/{author}")
async def of_author(web: Any, request: Any, author: str) -> Any:
    """The ids that count against an author. Rises while the topic is read at the start: actions_read says how far."""
    found = by_author.get(author, [])
    return web.json({
        "author_id": author, "strikes": len(found), "content_ids": found, "actions_read": read["actions"],
    })  # fmt: skip


if __name__ == "__main__":
    app.main()
