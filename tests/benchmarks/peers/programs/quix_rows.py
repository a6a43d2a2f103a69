"""Quix Streams with its StreamingDataFrame: one row per call, since it has no function over a batch of rows. (A count window
collects the rows of one key, and each request has a key of its own.)"""

from __future__ import annotations

from typing import Any

from quixstreams import Application, message_context

from tests.benchmarks.peers.programs.answers import TRANSACTION_LIMIT_MS, Answers, Job, Request, headers_of


def application(job: Job, **more: Any) -> Application:
    return Application(
        broker_address=job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        loglevel="WARNING",
        **more,
    )


def main() -> None:
    job = Job.given()
    answers = Answers(job)
    app = application(
        job,
        processing_guarantee=job.guarantee,
        producer_extra_config={"transaction.timeout.ms": TRANSACTION_LIMIT_MS} if job.exactly_once else {},
        state_dir=job.folder,
    )
    requests = app.topic(job.requests, key_deserializer="bytes", value_deserializer="bytes")
    results = app.topic(job.results, key_serializer="bytes", value_serializer="bytes")

    def answer(value: bytes, key: Any, timestamp_ms: int, headers: Any) -> bytes:
        context = message_context()
        request_id = dict(headers)["ce_id"].decode()
        return answers([Request(value, request_id, context.partition, context.offset, timestamp_ms)])[0]

    def headers_of_result(value: bytes, key: Any, timestamp_ms: int, headers: Any) -> Any:
        return headers_of(dict(headers)["ce_id"].decode())

    frame = app.dataframe(requests)
    frame = frame.apply(answer, metadata=True)
    frame = frame.set_headers(headers_of_result)
    frame.to_topic(results)
    app.run()


if __name__ == "__main__":
    main()
