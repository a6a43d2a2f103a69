"""Two writers of `model-updates-v1` at once, on real Kafka: no update is decided on what was not the last."""

from __future__ import annotations

from threading import Thread

import pytest

from schemas import avro
from schemas.generated import ModelUpdate
from schemas.topics import MODEL_UPDATES
from streams.clock import SystemClock
from streams.schema_registry import Registry
from tests.conftest import Servers
from training_triggers.versions.compare_and_set import Updates, on_kafka

pytestmark = pytest.mark.real
MODEL, EACH = "compare-and-set", 4


def test_two_writers_at_once_lose_nothing(servers: Servers) -> None:
    ids = Registry(servers.registry)
    ids.register(MODEL_UPDATES.subject, avro.schema("model-update"))
    logs = [on_kafka(servers.address, ids, SystemClock(), f"writer-{number}") for number in range(2)]
    made: list[ModelUpdate | None] = []
    failed: list[BaseException] = []

    def count(log: Updates, number: int) -> None:
        def decide(written: list[ModelUpdate]) -> ModelUpdate:
            mine = [one for one in written if one.model == MODEL]
            return ModelUpdate(
                model=MODEL,
                version=str(len(mine)),
                uri="",
                digest=f"{number}",
                reason=mine[-1].version if mine else "",
                actor=f"writer-{number}",
                decided_ms=SystemClock().now_ms(),
            )

        try:
            for _ in range(EACH):
                made.append(log.change(decide))
        except BaseException as error:
            failed.append(error)

    threads = [Thread(target=count, args=(log, number)) for number, log in enumerate(logs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(360)
    assert failed == []
    written = [one for one in logs[0].all() if one.model == MODEL]
    assert [one.version for one in written] == [str(n) for n in range(2 * EACH)]
    assert [one.reason for one in written] == ["", *(one.version for one in written[:-1])], "each was decided on the last"
    assert sorted(one.version for one in made if one) == sorted(one.version for one in written)
