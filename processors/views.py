"""Derived views in Faust: strikes per author. The only module that imports faust.

Nothing that matters depends on this process: the view is made from `content-actions-v1`, and a lost table is made
again from its changelog. Two of Faust's defaults are changed, as they would make it wrong or slow: it reads committed
records only (by default it reads those of aborted transactions, too), and a dead worker is noticed after ten seconds,
not sixty. Actions are regrouped by author, at least once and in order: repeats change nothing (`strikes.py`).

`python -m processors.views worker --web-port N`, then `GET /strikes/AUTHOR`.
"""

from __future__ import annotations

import json
import os
from typing import Any, cast

import faust
from faust.transport.drivers import aiokafka as driver

from processors import strikes
from processors.settings import ProcessorSettings
from schemas.codec import read_any
from schemas.errors import UndecodableRecord
from schemas.topics import CONTENT_ACTIONS
from streams.registry import Registry
from streams.settings import load

SETTINGS = load(ProcessorSettings, os.environ)
NAME = "strikes"


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
    f"millrace-view-{NAME}",
    broker=f"kafka://{SETTINGS.bootstrap}",
    value_serializer="raw",
    store="memory://",
    datadir=os.environ.get("MILLRACE_VIEWS_FOLDER", ".faust"),
    topic_partitions=CONTENT_ACTIONS.partitions,
    topic_replication_factor=1,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    broker_session_timeout=10.0,
    broker_heartbeat_interval=3.0,
    broker_commit_interval=1.0,
    table_cleanup_interval=30.0,
    stream_wait_empty=False,
    web_bind="127.0.0.1",
    web_host="127.0.0.1",
    node_hostname="127.0.0.1",  # where another worker sends a question on to the one that holds the author
)
app.transport = _CommittedTransport([app.conf.broker[0]], app, app.loop)

registry = Registry(SETTINGS.registry)
actions = app.topic(CONTENT_ACTIONS.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
by_author = app.topic(
    f"{app.conf.id}-by-author", key_type=str, value_type=bytes, key_serializer="raw", value_serializer="raw", internal=True,
    partitions=CONTENT_ACTIONS.partitions,
)  # fmt: skip
kept: Any = faust.Schema(key_type=str, key_serializer="raw", value_serializer="json")  # the same key bytes as in by_author
table = app.Table(NAME, default=list, partitions=CONTENT_ACTIONS.partitions, schema=kept)


@app.agent(actions)
async def regroup(stream: Any) -> None:
    async for value in stream:
        try:
            action = read_any(value, registry)
        except UndecodableRecord:
            continue  # the loop wrote it, so it cannot be; a view does not stop for it
        if action["author_id"]:
            said = {"content_id": action["content_id"], "action": action["action"]}
            sent = await by_author.send(key=action["author_id"], value=json.dumps(said).encode())
            await sent  # acknowledged before the action's offset may be committed: a kill in between would lose it


@app.agent(by_author)
async def count(stream: Any) -> None:
    async for author, said in stream.items():
        table[author] = strikes.after(cast(list[str], table[author]), json.loads(said))


@app.page("/strikes/{author}")
@app.table_route(table=table, match_info="author")
async def of_author(web: Any, request: Any, author: str) -> Any:
    """The ids that count against an author, and how many; from whichever worker holds them."""
    found = list(table[author])
    return web.json({"author_id": author, "strikes": len(found), "content_ids": found})


if __name__ == "__main__":
    app.main()
