"""From request bytes to result bytes, as every peer computes them: one codec call per record, the network once per batch.

Needs only numpy and fastavro, because each program runs in an environment of its own.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import numpy as np

from tests.benchmarks.network import WIDTH, Mlp

JOB = "PEER_JOB"  # environment variable with the job as JSON
BATCH = 256
HEAD_BYTES = 5  # of the Confluent wire format
TRANSACTION_LIMIT_MS = 15_000  # as our worker's; the bench waits for it after a program was stopped in a transaction
RECORDS = Path(__file__).parents[2] / "records"


@dataclass(frozen=True)
class Job:
    """result_schema: id in the registry. folder: for state, removed after the run. connector: archive of Flink's connector."""

    bootstrap: str
    registry: str
    group: str
    requests: str
    results: str
    result_schema: int
    guarantee: str
    folder: str
    connector: str

    @classmethod
    def given(cls) -> Job:
        return cls(**json.loads(os.environ[JOB]))

    @property
    def exactly_once(self) -> bool:
        return self.guarantee == "exactly-once"


class Request(NamedTuple):
    value: bytes
    request_id: str
    partition: int
    offset: int
    timestamp_ms: float


FIXED_HEADERS: list[tuple[str, bytes]] = [
    ("ce_specversion", b"1.0"),
    ("ce_source", b"bench-0"),
    ("ce_type", b"millrace.tensor-result"),
    ("content-type", b"application/vnd.confluent.avro"),
]


def headers_of(request_id: str) -> list[Any]:
    """The five CloudEvents headers of a result: pairs of name and bytes."""
    return [("ce_id", request_id.encode()), *FIXED_HEADERS]


def _schema(record: str) -> Any:
    return fastavro.parse_schema(json.loads((RECORDS / record / "v1.avsc").read_text()))


class Answers:
    def __init__(self, job: Job) -> None:
        self._topic, self._head = job.requests, struct.pack(">bI", 0, job.result_schema)
        self._request, self._result = _schema("tensor-request"), _schema("tensor-result")
        self._network = Mlp()

    def __call__(self, requests: Sequence[Request]) -> list[bytes]:
        """Values of the results, in the order of the requests."""
        decoded: list[Any] = [
            fastavro.schemaless_reader(BytesIO(one.value[HEAD_BYTES:]), self._request, None) for one in requests
        ]
        x = np.frombuffer(b"".join([one["tensor"] for one in decoded]), "<f4").reshape(-1, WIDTH)
        begun_s = time.perf_counter()
        logits = self._network(x).astype("<f4")
        compute_ms = (time.perf_counter() - begun_s) * 1000
        now_ms = time.time() * 1000
        return [
            self._encoded(one, len(requests), now_ms, compute_ms, row.tobytes())
            for one, row in zip(requests, logits, strict=True)
        ]

    def _encoded(self, request: Request, batch_size: int, now_ms: float, compute_ms: float, logits: bytes) -> bytes:
        answer = {
            "request_id": request.request_id,
            "status": "ok",
            "error_code": None,
            "error_message": None,
            "origin_topic": self._topic,
            "origin_partition": request.partition,
            "origin_offset": request.offset,
            "redrive": 0,
            "batch_size": batch_size,
            "queue_ms": max(0.0, now_ms - request.timestamp_ms),
            "compute_ms": compute_ms,
            "models": [{"name": "mlp", "version": "1", "arm": "live", "compute_ms": compute_ms}],
            "features": [],
            "logits": logits,
        }
        out = BytesIO()
        out.write(self._head)
        fastavro.schemaless_writer(out, self._result, answer)
        return out.getvalue()
