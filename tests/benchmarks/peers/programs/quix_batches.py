"""Quix Streams with its own consumer and producer, which its documentation names for batches: a loop like `bare_loop.py`, at least
once, committed as often as its applications are by default."""

from __future__ import annotations

import time

from quixstreams import Application

from tests.benchmarks.peers.programs.answers import BATCH, Answers, Job, headers_of
from tests.benchmarks.peers.programs.bare_loop import request_of

COMMIT_S = 5.0


def main() -> None:
    job = Job.given()
    answers = Answers(job)
    app = Application(
        broker_address=job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        loglevel="WARNING",
    )
    with app.get_consumer(auto_commit_enable=False) as consumer, app.get_producer() as producer:
        consumer.subscribe([job.requests])
        committed_s = time.perf_counter()
        while True:
            messages = consumer.consume(BATCH, 0.05)
            if messages:
                requests = [request_of(message) for message in messages]
                for message, request, value in zip(messages, requests, answers(requests), strict=True):
                    producer.produce(job.results, value, message.key(), headers=headers_of(request.request_id))
            if messages and time.perf_counter() - committed_s >= COMMIT_S:
                producer.flush()
                consumer.commit(messages[-1], asynchronous=False)
                committed_s = time.perf_counter()


if __name__ == "__main__":
    main()
