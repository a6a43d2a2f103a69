"""Quix Streams with its own consumer and producer, which its documentation names for batches: a loop like `bare_loop.py`, at least
once, committed as often as its applications are by default."""

from __future__ import annotations

import time

from tests.benchmarks.peers.programs.answers import BATCH, Answers, Job
from tests.benchmarks.peers.programs.bare_loop import answer
from tests.benchmarks.peers.programs.quix_rows import application

COMMIT_S = 5.0


def main() -> None:
    job = Job.given()
    answers = Answers(job)
    app = application(job)
    with app.get_consumer(auto_commit_enable=False) as consumer, app.get_producer() as producer:
        consumer.subscribe([job.requests])
        committed_s = time.perf_counter()
        while True:
            messages = consumer.consume(BATCH, 0.05)
            if messages:
                answer(messages, answers, producer.produce, job.results)
            if messages and time.perf_counter() - committed_s >= COMMIT_S:
                producer.flush()
                consumer.commit(messages[-1], asynchronous=False)
                committed_s = time.perf_counter()


if __name__ == "__main__":
    main()
