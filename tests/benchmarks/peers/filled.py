"""The topics of the bench: requests are written before the first program starts, and computed here for comparison."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from schemas import avro
from schemas.codec import Decoder
from schemas.errors import BrokerUnavailable
from streams import headers as h
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin, TopicSpec
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.schema_registry import Registry
from tests.benchmarks.mlp import REQUESTS, RESULTS
from tests.benchmarks.network import WIDTH, Mlp
from tests.benchmarks.peers import json_requests
from tests.benchmarks.peers.tally import Requests
from tests.benchmarks.worker import fill, say

BEYOND = 1.3  # requests in the topic, as a multiple of those that count: no program meets the end of the topic
READ_LIMIT_S = 300.0


@dataclass(frozen=True)
class Filled:
    """A broker with the requests in its topic, and a registry. result_schema: id of the results' schema."""

    bootstrap: str
    registry: str
    requests: Requests
    result_schema: int


def filled(bootstrap: str, registry: str, most: int) -> Filled:
    """most: requests that count, of the program that gets most of them."""
    admin = KafkaAdmin(KafkaAddress(bootstrap=bootstrap))
    admin.create([TopicSpec(name, 1, {}) for name in (json_requests.REQUESTS, json_requests.RESULTS)])
    count = int(most * BEYOND) + 1000
    say(f"{count} requests into the topic")
    fill(bootstrap, registry, count)
    ids = Registry(registry)
    return Filled(bootstrap, registry, _read(bootstrap, ids), ids.id_of(RESULTS.subject, avro.schema("tensor-result")))


def _read(bootstrap: str, registry: Registry) -> Requests:
    """All requests of the topic, computed in parts of the size that one poll returns."""
    reader = KafkaBroadcast(KafkaAddress(bootstrap=bootstrap), REQUESTS.name, SystemClock())
    decoder, network = Decoder.of(REQUESTS, registry), Mlp()
    ids: list[str] = []
    logits = [np.empty((0, 2), np.float32)]
    until_s = time.perf_counter() + READ_LIMIT_S
    try:
        while not reader.at_end():
            if time.perf_counter() > until_s:
                raise BrokerUnavailable(f"{REQUESTS.name} was not read to its end in {READ_LIMIT_S:.0f} s")
            polled = reader.wait(0.2)
            if len(polled):
                ids += [dict(headers or ())[h.CE_ID].decode() for headers in polled.headers]
                logits.append(network(decoder.decode(polled.values)[0].matrix("tensor", "<f4", WIDTH)))
    finally:
        reader.close()
    return Requests(ids, np.concatenate(logits))
