"""MLServer's own topic: the same tensors as JSON in the format of its inference protocol. It reads from the end of the topic, so
requests are written once it reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import numpy as np
import numpy.typing as npt
from confluent_kafka import Producer

from infra.local.processes import ProcessFailed
from streams.headers import HeaderList
from tests.benchmarks.network import WIDTH, Mlp
from tests.benchmarks.peers.tally import Requests
from tests.benchmarks.peers.visible import POLL_S, START_LIMIT_S, Results

REQUESTS, RESULTS = "peers-json-requests", "peers-json-results"
HEADERS: list[Any] = [("mlserver-model", b"mlp")]
TRY_S = 1.0
FLUSH_LIMIT_S = 60.0
MOST_WAITING, PART = 1_000, 100  # requests


def request(tensor: npt.NDArray[np.float32]) -> bytes:
    """tensor: float32 of shape (32,)."""
    body: dict[str, Any] = {"name": "tensor", "shape": [1, WIDTH], "datatype": "FP32", "data": tensor.tolist()}
    return json.dumps({"inputs": [body]}).encode()


def await_reader(bootstrap: str, results: Results, running: Callable[[], bool]) -> None:
    """Write a request each second until the server answers; its first answers do not count. Raises ProcessFailed."""
    producer = Producer({"bootstrap.servers": bootstrap})
    begun_s = time.perf_counter()
    while results.end() == results.start:
        if not running() or time.perf_counter() - begun_s > START_LIMIT_S:
            raise ProcessFailed("no first request was answered")
        producer.produce(REQUESTS, request(np.zeros(WIDTH, np.float32)), b"first", headers=HEADERS)
        producer.flush(FLUSH_LIMIT_S)
        time.sleep(TRY_S)
    time.sleep(TRY_S)
    results.start_here()


@contextmanager
def written(bootstrap: str, request_ids: Sequence[str], results: Results) -> Iterator[Requests]:
    """Writes requests from a thread, while at most MOST_WAITING of them have no result: MLServer takes in all that it finds, and
    slows down with each request that waits. Yields the requests with what the network makes of them."""
    tensors = np.random.default_rng(0).standard_normal((len(request_ids), WIDTH)).astype(np.float32)
    stop = Event()

    def write() -> None:
        producer = Producer({"bootstrap.servers": bootstrap})
        for number, (request_id, tensor) in enumerate(zip(request_ids, tensors, strict=True)):
            if number % PART == 0:
                producer.flush(FLUSH_LIMIT_S)
                while number - (results.end() - results.start) > MOST_WAITING and not stop.wait(POLL_S):
                    continue
            if stop.is_set():
                return
            producer.produce(REQUESTS, request(tensor), request_id.encode(), headers=HEADERS)
        producer.flush(FLUSH_LIMIT_S)

    writer = Thread(target=write, daemon=True)
    writer.start()
    try:
        yield Requests(request_ids, Mlp()(tensors))
    finally:
        stop.set()
        writer.join(FLUSH_LIMIT_S)


def answer_in(key: bytes | None, value: bytes, headers: HeaderList) -> tuple[str, bytes]:
    """Request id and logits of a result."""
    logits = json.loads(value)["outputs"][0]["data"]
    return (key or b"").decode(), np.array(logits, "<f4").tobytes()
