"""Faust: an agent that takes its events in batches. At least once, committed every 2.8 s, as by default."""

from __future__ import annotations

from typing import Any

import faust

from tests.benchmarks.peers.programs.answers import BATCH, Answers, Job, Request, headers_of

JOB = Job.given()
ANSWERS = Answers(JOB)
WITHIN_S = 0.05

app = faust.App(
    JOB.group,
    broker=f"kafka://{JOB.bootstrap}",
    datadir=JOB.folder,
    key_serializer="raw",
    value_serializer="raw",
    consumer_auto_offset_reset="earliest",
    topic_partitions=1,
    topic_disable_leader=True,
    web_enabled=False,
)
requests = app.topic(JOB.requests, key_type=bytes, value_type=bytes)
results = app.topic(JOB.results, key_type=bytes, value_type=bytes)


def request_of(event: Any) -> Request:
    message = event.message
    return Request(event.value, event.headers["ce_id"].decode(), message.partition, message.offset, message.timestamp * 1000)


@app.agent(requests)
async def answer(stream: Any) -> None:
    async for events in stream.take_events(BATCH, within=WITHIN_S):
        taken = [request_of(event) for event in events]
        for event, request, value in zip(events, taken, ANSWERS(taken), strict=True):
            await results.send(key=event.key, value=value, headers=dict(headers_of(request.request_id)))


if __name__ == "__main__":
    app.main()
