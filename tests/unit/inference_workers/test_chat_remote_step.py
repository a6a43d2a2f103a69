"""The chat worker on the in-memory broker, with answers of a server that streams as vLLM does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference_workers.chat.settings import EngineSettings
from inference_workers.chat_remote.remote_model import remote_model
from inference_workers.chat_remote.settings import ServerSettings
from inference_workers.chat_service.server_version import WORDS, ServerVersion
from inference_workers.models.addresses import open_tokenizer
from inference_workers.served.announcements import Updates
from inference_workers.served.swaps import Swaps
from schemas import avro
from schemas.codec import Encoder, read_any
from schemas.generated import ModelUpdate
from schemas.topics import MODEL_UPDATES, PREDICTION_LOG, SWAP_ACKS
from streams.clock import SystemClock
from streams.loop.loop import Loop
from streams.memory.endpoints import MemoryBroadcast
from streams.metrics import Metrics
from streams.rows import OutRecords
from tests.support.chat_engine import ScriptedEngine
from tests.support.chat_world import ChatWorld, run_until
from tests.support.completion_server import Asked, CompletionServer, completion_server, continued
from tests.support.tiny_llama import tiny_llama


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CompletionServer]:
    template = remote_model(*_parts(tiny_llama(tmp_path / "tiny"), "http://127.0.0.1:9/v1"))[0].template
    with completion_server(lambda tokens: template.text(tokens)) as made:
        yield made


def _parts(folder: Path, address: str) -> tuple:  # type: ignore[type-arg]
    settings = ServerSettings(chat_backend=address, chat_server_model="far")
    return open_tokenizer(f"file:{folder}"), settings, EngineSettings(), SystemClock()


class World(ChatWorld):
    def __init__(self, folder: Path, server: CompletionServer) -> None:
        super().__init__(partitions=1)
        self.folder, self.server = folder, server
        for topic in (MODEL_UPDATES, SWAP_ACKS):
            self.broker.create(topic.name, 1)
            self.ids.register(topic.subject, avro.schema(topic.record_name))

    def worker(self, slot: int = 0) -> Loop:
        folder, *rest = _parts(self.folder, self.server.address)
        model, engine = remote_model(folder, *rest)
        updates = Updates(MemoryBroadcast(self.broker, MODEL_UPDATES.name), self.ids, self.clock, Metrics())
        swaps = Swaps(self.ids, self.clock, f"chat-{slot}", Metrics(), self.plain.produce)
        version = ServerVersion(model, folder, "far", updates, swaps, self.clock, lambda: engine.trouble)
        return self.loop(ScriptedEngine(), slot=slot, versions=version)

    def end(self, loop: Loop) -> None:
        loop.source.close()
        loop.step.close()


@pytest.fixture
def world(tmp_path: Path, server: CompletionServer) -> World:
    return World(tmp_path / "tiny", server)


def made(world: World, request_id: str = "r") -> list[int]:
    return [token.token for token in world.streamed(request_id)]


def test_an_answer_of_a_server_is_a_result_with_its_tokens_and_its_log(world: World, server: CompletionServer) -> None:
    loop = world.worker()
    world.ask("r")
    run_until([loop], lambda: world.results())
    result = world.results()["r"]
    assert made(world) == continued(server.bodies[0]["prompt"], 12)
    assert (result["status"], result["finish_reason"], result["completion_tokens"]) == ("ok", "length", 12)
    assert (result["models"][0]["name"], result["cached_tokens"]) == ("far", 0)
    version = result["models"][0]["version"]
    assert version == f"{open_tokenizer(f'file:{world.folder}').version}@far"
    (entry,) = world.records(PREDICTION_LOG.name)
    assert (entry["model"], entry["version"]) == ("chat", version)
    world.end(loop)


def test_another_worker_goes_on_from_the_tokens_on_the_topic(world: World, server: CompletionServer) -> None:
    server.between_s = 0.01
    loop = world.worker()
    world.ask("r", max_tokens=60)
    run_until([loop], lambda: len(made(world)) > 5)
    world.end(loop)
    before = made(world)
    assert len(before) < 60
    other = world.worker(slot=1)
    run_until([other], lambda: world.results())
    assert made(world) == continued(server.bodies[0]["prompt"], 60)
    assert server.bodies[-1]["prompt"][: len(server.bodies[0]["prompt"]) + 6] == [*server.bodies[0]["prompt"], *before[:6]]
    assert world.results()["r"]["text"] == "".join(token.text for token in world.streamed("r"))
    world.end(other)


def test_refused_and_busy_answers_reach_their_callers(world: World, server: CompletionServer) -> None:
    def refused(asked: Asked) -> None:
        asked.status(400, b'{"error": {"message": "too long for me"}}')

    def busy(asked: Asked) -> None:
        asked.status(429, b"{}", Retry_After="3")

    server.answers = [refused, busy]
    loop = world.worker()
    for name in ("a", "b", "c"):
        world.ask(name)
        run_until([loop], lambda name=name: name in world.results())  # type: ignore[misc]
    a, b, c = (world.results()[name] for name in "abc")
    assert (a["status"], a["error_code"]) == ("failed", "invalid") and "too long for me" in a["error_message"]
    assert (b["status"], b["retry_after_ms"], c["status"]) == ("busy", 3000, "ok")
    world.end(loop)


def test_announced_versions_are_refused_with_the_reason(world: World) -> None:
    loop = world.worker()
    fields: dict[str, Any] = {"uri": "file:/x", "digest": "d" * 64, "reason": "a test", "actor": "ada", "decided_ms": 1}
    for model in ("chat", "moderation-text"):
        value = Encoder.of(MODEL_UPDATES, world.ids).encode_one(ModelUpdate(model=model, version="9", **fields))
        world.plain.produce(OutRecords(MODEL_UPDATES.name, [model.encode()], [value], [[]]))

    def noted() -> bool:
        world.clock.sleep(0.3)
        return any("chat 9 was announced and refused" in note for note in loop.step.report().notes)

    run_until([loop], noted)
    polled = MemoryBroadcast(world.broker, SWAP_ACKS.name).poll()
    acks = [read_any(value, world.ids) for value in polled.values]
    assert [(ack["model"], ack["accepted"], ack["reason"]) for ack in acks] == [("chat", False, WORDS)]
    again = world.worker(slot=1)  # one that starts later says so too
    assert any("chat 9" in note for note in again.step.report().notes)
    world.end(loop)
    world.end(again)
