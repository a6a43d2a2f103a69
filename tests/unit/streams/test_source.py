"""The consumer of a loop where its client does not behave."""

from __future__ import annotations

import threading

import pytest

from streams.kafka import source as source_module
from streams.kafka.config import KafkaAddress
from streams.kafka.source import KafkaSource
from streams.metrics import Metrics


class NeverCloses:
    def __init__(self) -> None:
        self.ended = threading.Event()

    def close(self) -> None:
        self.ended.wait()

    def unsubscribe(self) -> None:
        return

    def poll(self, timeout_s: float) -> None:
        return


def test_a_client_that_does_not_leave_its_group_does_not_hold_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "CLOSE_LIMIT_S", 0.2)
    source, client = KafkaSource(KafkaAddress(bootstrap="127.0.0.1:9"), "group", Metrics()), NeverCloses()
    source._consumer.close()
    source._consumer = client  # type: ignore[assignment]
    source.close()
    assert source.assignment() == set(), "it is closed for those who ask"
    client.ended.set()
