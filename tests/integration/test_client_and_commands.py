"""What people type, on a real stack: up, send, topics, request, tail, models, down; and the client under it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra import records
from infra.cli import model_history, process_table, record_lines, review, topic_table
from infra.demo import warm_up
from infra.settings import ROOT, StackSettings
from schemas import avro
from schemas.codec import Encoder
from schemas.errors import InvalidRequest
from schemas.generated import ContentAction, Label, ModelUpdate, SwapAck
from schemas.topics import (
    CONTENT_ACTIONS,
    DRIFT_EVENTS,
    DRIFT_STATE,
    LABELS,
    MODEL_UPDATES,
    MODERATION_VERDICTS,
    SWAP_ACKS,
    TRAINING_EVENTS,
    TRAINING_REQUESTS,
    WORKER_STATUS,
)
from streams.client import NoAnswer, connect
from streams.clock import SystemClock
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.kafka.sink import KafkaSink
from streams.process.settings import load
from streams.rows import OutRecords
from streams.schema_registry import Registry
from tests.chaos.stage import Stage, staged
from tests.conftest import Servers
from training_triggers.runs import report
from training_triggers.settings import TriggerSettings
from training_triggers.versions.promotion import updates

pytestmark = pytest.mark.real


@pytest.fixture
def stage(servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    with staged(servers.bootstrap, servers.registry, tmp_path) as made:
        yield made


def run(servers: Servers, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "MILLRACE_BOOTSTRAP": servers.bootstrap, "MILLRACE_REGISTRY": servers.registry}
    return subprocess.run(
        [str(ROOT / "millrace"), *words], capture_output=True, text=True, env=env, input=given, timeout=360, check=False
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
    assert "line 1 is not JSON" in bad.stdout

    table = {row["topic"]: row for row in lines(run(servers, "topics", "--json"))}
    assert table["content-v1"]["lag"]["moderation"] == 0
    foreign = KafkaSink(KafkaAddress(bootstrap=servers.bootstrap), f"foreign-{found[0]['request_id']}")
    for i in range(3):  # what was aborted, and markers, are nothing to be behind of
        foreign.begin()
        if i % 2:
            foreign.produce(OutRecords("content-v1", [b"k"], [b"junk"], [[]]))
        foreign.flush(10)
        foreign.abort(10)
    foreign.close()
    table = {row["topic"]: row for row in lines(run(servers, "topics", "--json"))}
    assert table["content-v1"]["lag"]["moderation"] == 0
    (record,) = lines(run(servers, "tail", "moderation-verdicts-v1", "--first", "-n", "1", "--json"))
    assert record["value"]["status"]


def test_commands_say_what_is_wrong_and_what_to_do(servers: Servers, tmp_path: Path) -> None:
    assert "no task 'telepathy'" in run(servers, "send", "telepathy", "--text", "x").stderr
    assert "there is no topic nowhere" in run(servers, "tail", "nowhere").stderr
    not_up = subprocess.run(
        [str(ROOT / "millrace"), "send", "moderation", "--text", "x"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MILLRACE_BOOTSTRAP": "", "MILLRACE_REGISTRY": ""},
        timeout=180,
    )
    assert not_up.returncode == 1
    assert "not-up" in not_up.stderr or "no-answer" in not_up.stdout
    shown = {one["name"]: one for one in lines(run(servers, "config", "show", "--json"))}
    assert shown["MILLRACE_BOOTSTRAP"]["origin"] == "MILLRACE_BOOTSTRAP"
    assert shown["MILLRACE_MAX_BATCH_REQUESTS"]["origin"] == "default"


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


MARKUP = "[/red] [/] \x1b]0;owned\x07 \x9b2J"


def example(record: str) -> dict[str, Any]:
    found: dict[str, Any] = avro.from_json(next(iter(avro.examples(record).values())), avro.schema(record))
    return found


def test_nothing_on_a_topic_breaks_a_command(
    own_servers: Servers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nulls, junk, records of another kind, null headers, markup and control characters, on every topic that a command reads."""
    servers = own_servers
    ids, address = Registry(servers.registry), servers.address
    update = ModelUpdate.from_dict(example("model-update"))
    ack, action = SwapAck.from_dict(example("swap-ack")), ContentAction.from_dict(example("content-action"))
    hostile: dict[Any, Any] = {
        MODEL_UPDATES: replace(update, model="model-of-nobody", reason=MARKUP, actor=MARKUP, decided_ms=2**62),
        SWAP_ACKS: replace(ack, model="model-of-nobody", worker=MARKUP, accepted=False, reason=MARKUP),
        CONTENT_ACTIONS: replace(
            action, content_id=MARKUP, author_id=MARKUP, action="review", reasons=(MARKUP,), decided_ms=2**62
        ),
    }
    other = Encoder.of(LABELS, ids).encode_one(Label.from_dict(example("label")))
    sink = KafkaSink(address, None)
    read = (
        MODEL_UPDATES,
        SWAP_ACKS,
        CONTENT_ACTIONS,
        WORKER_STATUS,
        MODERATION_VERDICTS,
        TRAINING_REQUESTS,
        TRAINING_EVENTS,
        DRIFT_STATE,
        DRIFT_EVENTS,
    )
    for topic in read:
        values = [None, b"", b"junk", b"\0\0\0\0\0", b"\0\xff\xff\xff\xff rest", other[:-3], other]
        if topic in hostile:
            values.append(Encoder(hostile[topic].RECORD, topic.subject, ids).encode_one(hostile[topic]))
        n = len(values)
        headers: Any = [[("trace", None), ("\x1b[2J", MARKUP.encode())]] * n
        sink.produce(OutRecords(topic.name, [b"\xff\x1b[2J[/red]"] * n, values, headers))
    sink.flush(10)
    sink.close()

    settings = StackSettings(home="/nowhere", bootstrap=servers.bootstrap, registry=servers.registry)
    monkeypatch.setenv("MILLRACE_BOOTSTRAP", servers.bootstrap)
    monkeypatch.setenv("MILLRACE_REGISTRY", servers.registry)
    for as_json in (False, True):
        process_table.status(settings, as_json)
        topic_table.topics(settings, False, as_json)
        for topic in read:
            record_lines.tail(settings, topic.name, 7, True, as_json)
        assert model_history.history(settings, "model-of-nobody", as_json) == 0
        assert model_history.history(settings, "nosuch", as_json) == 1
        review.show(settings, as_json)
        review.decide(settings, review.Decision(MARKUP, "remove", note=MARKUP), as_json)
        report.drift(load(TriggerSettings, os.environ), as_json)
        report.runs(load(TriggerSettings, os.environ), as_json)
    process_table.last_statuses(settings)
    assert [one.model for one in updates(KafkaBroadcast(address, MODEL_UPDATES.name, SystemClock()), ids)].count(
        "model-of-nobody"
    ) == 1
    out = capsys.readouterr().out
    assert "[/red]" in out
    assert not {c for c in out if ord(c) < 32 or 127 <= ord(c) < 160} - {"\n"}


def test_warm_ups_at_the_same_time_answer_by_transactions_and_leave_no_topic(servers: Servers) -> None:
    senders = [KafkaSink(servers.address, None) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda sender: warm_up.warm_up(servers.address, sender), senders))
    assert min(done) > 20
    assert not [name for name in KafkaAdmin(servers.address).partitions() if name.startswith(warm_up.NAME)]
    for sender in senders:
        sender.close()
