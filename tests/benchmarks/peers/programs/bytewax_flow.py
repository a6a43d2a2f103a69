"""Bytewax: its Kafka source in batches of the default size, `flat_map_batch`, its Kafka sink. At least once: the bench runs it with
a recovery store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow

from tests.benchmarks.peers.programs.answers import Answers, Job, Request, headers_of

JOB = Job.given()
ANSWERS = Answers(JOB)


def request_of(message: Any) -> Request:
    return Request(
        message.value, dict(message.headers)["ce_id"].decode(), message.partition, message.offset, message.timestamp[1]
    )


def answer(messages: list[Any]) -> Iterator[Any]:
    requests = [request_of(message) for message in messages]
    for message, request, value in zip(messages, requests, ANSWERS(requests), strict=True):
        yield KafkaSinkMessage(message.key, value, headers=headers_of(request.request_id))


flow = Dataflow("peers")
taken = op.input("requests", flow, KafkaSource([JOB.bootstrap], [JOB.requests]))
answered = op.flat_map_batch("answer", taken, answer)
op.output("results", answered, KafkaSink([JOB.bootstrap], JOB.results))
