"""What people type, on a real stack: up, send, topics, request, tail, models, down; and the client under it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import records
from infra.settings import ROOT
from schemas.errors import InvalidRequest
from streams.client import NoAnswer, connect
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.registry import Registry
from streams.rows import OutRecords
from tests.chaos.stage import Stage, staged
from tests.conftest import Servers

pytestmark = pytest.mark.real


@pytest.fixture
def stage(servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    with staged(servers.bootstrap, servers.registry, tmp_path) as made:
        yield made


def run(servers: Servers, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "MILLRACE_BOOTSTRAP": servers.bootstrap, "MILLRACE_REGISTRY": servers.registry}
    return subprocess.run(
        [str(ROOT / "millrace"), *words], capture_output=True, text=True, env=env, input=given, timeout=120, check=False
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_send_answers_in_the_order_of_its_input_and_says_what_was_wrong(servers: Servers, stage: Stage, tmp_path: Path) -> None:
    stage.worker().wait_assigned()
    file = tmp_path / "requests.jsonl"
    rows = [{"content_id": f"c-{i}", "text": f"text number {i}"} for i in range(50)]
    rows[20] = {"content_id": "c-20", "text": "   "}
    file.write_text("\n".join(json.dumps(row) for row in rows))
    done = run(servers, "send", "moderation", "--jsonl", str(file), "--json")
    found = lines(done)
    assert done.returncode == 1  # one was not answered ok
    assert [one["content_id"] for one in found if one["status"] == "ok"] == [f"c-{i}" for i in range(50) if i != 20]
    assert (found[20]["status"], found[20]["error_code"]) == ("failed", "invalid")

    way = run(servers, "request", found[20]["request_id"], "--json")
    topics = [record["topic"] for record in lines(way)]
    assert topics[0] == "content-v1"
    assert set(topics[1:]) == {"content-v1-moderation-dlq", "moderation-verdicts-v1"}
    way = run(servers, "request", found[0]["request_id"], "--json")
    assert "prediction-log-v1" in {record["topic"] for record in lines(way)}
    cut = records.way(KafkaAddress(bootstrap=servers.bootstrap), Registry(servers.registry), found[0]["request_id"], limit_s=0.0)
    assert not cut.whole, "it was told to stop at once"
    hanging = KafkaSink(KafkaAddress(bootstrap=servers.bootstrap), f"hangs-{found[0]['request_id']}")
    hanging.begin()
    hanging.produce(OutRecords("moderation-verdicts-v1", [b"k"], [b"v"], [[]]))
    hanging.flush(10)
    beside = records.way(KafkaAddress(bootstrap=servers.bootstrap), Registry(servers.registry), found[0]["request_id"])
    hanging.abort(10)
    hanging.close()
    assert beside.whole, "a transaction that hangs is of nobody's way"
    assert "moderation-verdicts-v1" in {record["topic"] for record in beside.records}

    piped = run(servers, "send", "moderation", given="free prize, call now to claim\nhello\n")
    assert piped.returncode == 0
    assert "flagged" in piped.stdout
    assert "\x1b[" not in piped.stdout  # no colours when piped

    bad = run(servers, "send", "moderation", "--jsonl", "-", given="{broken\n")
    assert bad.returncode == 1
    assert "line 1 is not JSON" in bad.stderr

    table = {row["topic"]: row for row in lines(run(servers, "topics", "--json"))}
    assert table["content-v1"]["lag"]["moderation"] == 0
    (record,) = lines(run(servers, "tail", "moderation-verdicts-v1", "--first", "-n", "1", "--json"))
    assert record["value"]["status"]


def test_commands_say_what_is_wrong_and_what_to_do(servers: Servers, tmp_path: Path) -> None:
    assert "no task 'telepathy'" in run(servers, "send", "telepathy", "--text", "x").stderr
    assert "there is no topic nowhere" in run(servers, "tail", "nowhere").stderr
    not_up = subprocess.run(
        [str(ROOT / "millrace"), "send", "moderation", "--text", "x"], capture_output=True, text=True, check=False,
        env={**os.environ, "MILLRACE_BOOTSTRAP": "", "MILLRACE_REGISTRY": ""}, timeout=60,
    )  # fmt: skip
    assert not_up.returncode == 1
    assert "not-up" in not_up.stderr or "no-answer" in not_up.stdout
    shown = {one["name"]: one for one in lines(run(servers, "config", "show", "--json"))}
    assert shown["MILLRACE_BOOTSTRAP"]["origin"] == "MILLRACE_BOOTSTRAP"
    assert shown["MILLRACE_MAX_BATCH"]["origin"] == "default"


def test_the_client_answers_many_at_once_and_names_bad_requests(servers: Servers, stage: Stage) -> None:
    stage.worker().wait_assigned()

    async def go() -> None:
        async with connect(servers.bootstrap, servers.registry) as client:
            requests = [client.request("moderation", {"content_id": f"c{i}", "text": f"text {i}"}) for i in range(100)]
            results = await asyncio.gather(*requests)
            assert [result["content_id"] for result in results] == [f"c{i}" for i in range(100)]
            with pytest.raises(InvalidRequest, match="has no field colour"):
                await client.request("moderation", {"content_id": "c", "colour": "red"})
            with pytest.raises(InvalidRequest, match="lacks content_id"):
                await client.request("moderation", {"text": "x"})
            with pytest.raises(InvalidRequest, match="another type"):
                await client.request("moderation", {"content_id": "c", "text": 7})

    asyncio.run(go())


def test_without_a_worker_the_client_stops_waiting(servers: Servers, stage: Stage) -> None:
    async def go() -> None:
        async with connect(servers.bootstrap, servers.registry) as client:
            with pytest.raises(NoAnswer, match="millrace status"):
                await client.request("moderation", {"content_id": "c", "text": "x"}, deadline_ms=300)

    asyncio.run(go())
    stage.worker().wait_assigned()
