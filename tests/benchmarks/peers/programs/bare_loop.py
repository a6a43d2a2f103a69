"""A plain loop on confluent-kafka, at least once: results are flushed before offsets are committed, every 100 ms."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, Message, Producer

from tests.benchmarks.peers.programs.answers import BATCH, Answers, Job, Request, headers_of

COMMIT_S = 0.1


def request_of(message: Message) -> Request:
    headers: Any = dict(message.headers() or ())
    value: Any = message.value()
    return Request(value, headers["ce_id"].decode(), message.partition() or 0, message.offset() or 0, message.timestamp()[1])


def answer(messages: Sequence[Message], answers: Answers, produce: Callable[..., Any], topic: str) -> None:
    requests = [request_of(message) for message in messages]
    for message, request, value in zip(messages, requests, answers(requests), strict=True):
        produce(topic, value, message.key(), headers=headers_of(request.request_id))


def main() -> None:
    job = Job.given()
    answers = Answers(job)
    consumer = Consumer(
        {
            "bootstrap.servers": job.bootstrap,
            "group.id": job.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    producer = Producer({"bootstrap.servers": job.bootstrap})
    consumer.subscribe([job.requests])
    committed_s = time.perf_counter()
    while True:
        messages = consumer.consume(BATCH, 0.05)
        if messages:
            answer(messages, answers, producer.produce, job.results)
            producer.poll(0)
        if messages and time.perf_counter() - committed_s >= COMMIT_S:
            producer.flush()
            consumer.commit(asynchronous=False)
            committed_s = time.perf_counter()


if __name__ == "__main__":
    main()
