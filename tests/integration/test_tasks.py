"""Every kind of content through real topics: one worker process that hosts all tasks, media inline and by reference, and
the way from a verdict to an action, a reviewer's label, and back."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_workers.networks.embedding import WIDTH
from infra.settings import ROOT
from schemas.codec import read_any
from schemas.topics import CONTENT_ACTIONS, LABELS, PREDICTION_LOG
from streams.claim_checks import INLINE_BYTES, ClaimChecks, split_media
from streams.client import Client, connect
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from tests.chaos.stage import Stage, staged
from tests.conftest import Servers
from tests.support import media
from tests.support.waiting import until

pytestmark = pytest.mark.real
ALL = ("moderation:2", "vision", "translation", "transcription")
SEVEN = {"data": media.digit_seven()}


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> ClaimChecks:
    return ClaimChecks([tmp_path_factory.mktemp("blobs").as_uri()])


@pytest.fixture(scope="module")
def stage(servers: Servers, blobs: ClaimChecks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(servers.bootstrap, servers.registry, tmp_path_factory.mktemp("stage")) as made:
        made.worker(tasks=ALL, MILLRACE_BLOB_ROOTS=blobs.roots[0]).wait_assigned()
        yield made


def asked(servers: Servers, *requests: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    async def go() -> list[dict[str, Any]]:
        async with connect(servers.bootstrap, servers.registry) as client:
            return await asyncio.gather(*(_ask(client, task, fields) for task, fields in requests))

    return asyncio.run(go())


async def _ask(client: Client, task: str, fields: dict[str, Any]) -> dict[str, Any]:
    return await client.request(task, fields, deadline_ms=30_000)


def test_each_task_answers_in_its_own_words(servers: Servers, stage: Stage) -> None:
    seen, said, heard, judged = asked(
        servers,
        ("vision", {"image": SEVEN, "top": 2}),
        ("translation", {"text": "I am happy.", "source": "en", "target": "fr"}),
        ("transcription", {"audio": {"data": media.sound()}}),
        ("moderation", {"content_id": "c-1", "text": "hello", "images": [SEVEN], "author_id": "ada"}),
    )
    assert [one["status"] for one in (seen, said, heard, judged)] == ["ok"] * 4
    assert seen["classes"][0]["label"] == "7" and len(seen["classes"]) == 2
    assert said["text"].startswith("Je suis") and not said["truncated"]
    assert heard["duration_s"] == pytest.approx(1.0)
    assert [model["name"] for model in judged["models"]] == ["moderation-text", "moderation-image"]
    assert [part["part"] for part in judged["parts"]] == ["text", "image 1"]


def test_parts_of_many_items_share_batches_and_each_verdict_names_its_own(servers: Servers, stage: Stage) -> None:
    from training_triggers.trainers.moderation_image_drawings import draw

    pictures = [one for one in (draw("held out", seed) for seed in range(200)) if one.kind in ("promotion", "picture")][:40]
    items: list[dict[str, Any]] = [
        {"content_id": f"c-{i}", "text": f"text {i}", "images": [SEVEN, {"data": media.encoded(one.picture)}]}
        for i, one in enumerate(pictures)
    ]
    items[3]["images"] = [{"data": media.noise()[:4000]}, *items[3]["images"][1:]]
    items[4] = {"content_id": "c-4", "text": "look", "video": {"data": media.video()}}
    items[5] = {"content_id": "c-5", "text": None, "images": [{"data": b"nothing"}]}
    found = asked(servers, *(("moderation", item) for item in items))
    assert [one["content_id"] for i, one in enumerate(found) if i != 5] == [f"c-{i}" for i in range(40) if i != 5]
    assert (found[5]["status"], found[5]["error_code"]) == ("failed", "media")
    broken = {part["part"]: part["error_code"] for part in found[3]["parts"]}
    assert (found[3]["status"], broken["image 1"], broken["image 2"]) == ("ok", "media", None)
    assert [part["part"].split(" at ")[0] for part in found[4]["parts"]] == ["text", *["video"] * 4]
    rest = [(one, drawn) for i, (one, drawn) in enumerate(zip(found, pictures, strict=True)) if i not in (3, 4, 5)]
    right = [(one["deciding"]["part"] == "image 2" and one["flagged"]) == drawn.promotion for one, drawn in rest]
    assert sum(right) / len(right) > 0.8  # the model is weak, and says so in its card
    assert max(one["batch_size"] for one in found) > 1


def test_the_log_holds_one_record_a_batch_and_model_with_the_parts(servers: Servers, stage: Stage) -> None:
    (result,) = asked(servers, ("moderation", {"content_id": "c-log", "text": "hello", "images": [SEVEN, SEVEN]}))
    reader = KafkaBroadcast(servers.address, PREDICTION_LOG.name, SystemClock())
    records = [read_any(value, stage.ids) for value in reader.read_to_end(20).values]
    reader.close()
    mine = {r["model"]: r for r in records if result["request_id"] in r["request_ids"]}
    text, image = mine["moderation-text"], mine["moderation-image"]
    assert image["request_ids"] == [result["request_id"]] * 2
    assert image["parts"] == ["image 1", "image 2"]
    assert image["outputs_shape"] == [2, 1]
    assert text["parts"] == ["text"], "it is not all that its item has"
    assert np.frombuffer(image["embeddings"], "<f2").shape == (2 * WIDTH,)
    assert text["embeddings"] == b""
    for record in mine.values():
        offsets = np.frombuffer(record["origin_offsets"], "<i8")
        assert set(offsets.tolist()) == {result["origin_offset"]}


def test_media_by_reference_are_read_and_what_changed_or_is_gone_is_said(
    servers: Servers, stage: Stage, blobs: ClaimChecks
) -> None:
    large = media.noise(800, "PNG")
    assert len(large) > INLINE_BYTES
    reference = split_media({"data": large}, blobs)
    gone = {**reference, "uri": reference["uri"] + "0"}
    outside = {**reference, "uri": "file:///etc/hostname"}
    changed = split_media({"data": media.noise(810, "PNG")}, blobs)
    Path(changed["uri"].removeprefix("file://")).write_bytes(large)
    found = asked(servers, *(("vision", {"image": one}) for one in (reference, gone, outside, changed)))
    assert found[0]["status"] == "ok"
    for result, why in zip(found[1:], ("cannot be opened", "does not lie under a root", "it was changed"), strict=True):
        assert (result["status"], result["error_code"]) == ("failed", "media")
        assert why in result["error_message"]


def test_hostile_requests_are_answered_and_the_worker_goes_on(servers: Servers, stage: Stage) -> None:
    found = asked(
        servers,
        ("vision", {"image": {"data": media.png_header(60_000, 60_000)}}),
        ("vision", {"image": SEVEN, "top": 0}),
        ("transcription", {"audio": {"data": media.sound_of(np.zeros(0, np.float32))}}),
        ("transcription", {"audio": {}}),
        ("moderation", {"content_id": "v", "video": {"data": media.video(2.0, last_at_s=36_000.0)}}),
        ("translation", {"text": "Hola", "source": "es", "target": "fr"}),
        ("translation", {"text": "  ", "source": "en", "target": "fr"}),
        ("vision", {"image": SEVEN}),
    )
    assert [one["status"] for one in found] == [*["failed"] * 7, "ok"]
    assert all(one["error_message"] for one in found[:-1])


def test_send_shows_each_task(servers: Servers, stage: Stage, tmp_path: Path) -> None:
    picture, sound = tmp_path / "seven.png", tmp_path / "tone.wav"
    picture.write_bytes(SEVEN["data"])
    sound.write_bytes(media.sound())
    lines = tmp_path / "requests.jsonl"
    lines.write_text(json.dumps({"image": {"file": str(picture)}, "top": 1}))

    def send(*words: str) -> str:
        env = {**os.environ, "MILLRACE_BOOTSTRAP": servers.bootstrap, "MILLRACE_REGISTRY": servers.registry}
        done = subprocess.run(
            [str(ROOT / "millrace"), "send", *words], capture_output=True, text=True, env=env, timeout=180, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "  7 " in send("vision", "--image", str(picture))
    assert json.loads(send("vision", "--jsonl", str(lines), "--json"))["classes"][0]["label"] == "7"
    assert "en to fr" in send("translation", "--text", "Good morning.")
    assert "1.00 s" in send("transcription", "--audio", str(sound))
    assert "image 1: " in send("moderation", "--text", "hello", "--image", str(picture))


# --- verdicts become actions --------------------------------------------------------------------------------------


def actions(servers: Servers, stage: Stage) -> list[dict[str, Any]]:
    reader = KafkaBroadcast(servers.address, CONTENT_ACTIONS.name, SystemClock())
    # what a killed process left open holds readers back until its successor, or the broker, ends it
    found = [read_any(value, stage.ids) for value in reader.read_to_end(60).values]
    reader.close()
    return found


@pytest.fixture
def processors(servers: Servers, tmp_path: Path) -> Iterator[Any]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            "MILLRACE_BOOTSTRAP": servers.bootstrap,
            "MILLRACE_REGISTRY": servers.registry,
            "MILLRACE_SESSION_TIMEOUT_MS": "3000",
            "PYTHONPATH": str(ROOT),
        }
        with (tmp_path / "processors.log").open("ab") as log:
            command = [sys.executable, "-m", "processors", "policy", "decisions"]
            started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait(90)


def test_a_verdict_becomes_one_action_and_a_reviewer_has_the_last_word(
    servers: Servers, stage: Stage, processors: Any, tmp_path: Path
) -> None:
    spam = "WINNER!! You have won a free prize, call 09061701461 now to claim, T&Cs apply. Reply STOP to end txt"
    items: list[dict[str, Any]] = [
        {"content_id": f"p-{i}", "text": spam if i % 2 else f"see you at {i}", "author_id": "ada"} for i in range(60)
    ]
    items.append({"content_id": "p-doubt", "text": "hello", "author_id": "bob", "images": [SEVEN, {"data": b"nothing"}]})
    asked(servers, *(("moderation", item) for item in items))
    first = processors()
    until(lambda: len(actions(servers, stage)) > 0, 40, "first action")
    first.kill()  # in the middle, or after it: what is committed is committed once
    first.wait()
    processors()
    wanted = {item["content_id"] for item in items}
    until(lambda: wanted <= {one["content_id"] for one in actions(servers, stage)}, 120, "an action for each item")
    mine = [one for one in actions(servers, stage) if one["content_id"] in wanted]
    assert len(mine) == len(wanted)  # each once
    by_item = {one["content_id"]: one for one in mine}
    assert by_item["p-1"]["action"] == "remove" and "spam" in by_item["p-1"]["reasons"][0]
    assert by_item["p-0"]["action"] == "allow"
    assert by_item["p-doubt"]["action"] == "review"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "MILLRACE_BOOTSTRAP": servers.bootstrap, "MILLRACE_REGISTRY": servers.registry}
        command = [str(ROOT / "millrace"), "review", *words]
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=180, check=False)

    waiting = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert "p-doubt" in {one["content_id"] for one in waiting}
    assert run("decide", "p-1", "allow", "--note", "a quotation").returncode == 0
    assert run("decide", "p-doubt", "remove", "--category", "spam").returncode == 0
    assert "no action on nobody" in run("decide", "nobody", "allow").stderr
    until(lambda: {"p-1": "allow", "p-doubt": "remove"}.items() <= _last(servers, stage).items(), 40, "decisions as actions")
    assert "p-doubt" not in run("list", "--json").stdout
    reader = KafkaBroadcast(servers.address, LABELS.name, SystemClock())
    labels = {one["content_id"]: one for one in (read_any(value, stage.ids) for value in reader.read_to_end(20).values)}
    reader.close()
    assert labels["p-doubt"]["truth"]["spam"] is True
    assert not any(labels["p-1"]["truth"].values())
    assert labels["p-1"]["request_id"] == by_item["p-1"]["request_id"]


def _last(servers: Servers, stage: Stage) -> dict[str, str]:
    return {one["content_id"]: one["action"] for one in actions(servers, stage)}
