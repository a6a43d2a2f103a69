"""Versions of the chat model: announced on a topic, loaded beside the old one, which ends what it began."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from typing import Any

import pytest

from inference_workers.chat.chat_model import ChatModel
from inference_workers.chat_service import chat_versions
from inference_workers.chat_service.chat_versions import LIVE_ONLY, AnnouncedVersions
from inference_workers.chat_service.serving import OLD_KEPT_S
from inference_workers.models.addresses import open_source
from inference_workers.models.folder import ModelFolder
from schemas import avro
from schemas.codec import Encoder, read_any
from schemas.errors import BadSettings, ModelRefused
from schemas.generated import Challenger, ModelUpdate
from schemas.topics import MODEL_UPDATES, SWAP_ACKS
from streams.memory.endpoints import MemoryBroadcast
from streams.metrics import Metrics
from streams.rows import OutRecords
from tests.support.chat_engine import ScriptedEngine, scripted_model
from tests.support.chat_world import ChatWorld, run_until
from tests.support.tiny_llama import tiny_llama
from tests.support.waiting import until


class Versions:
    """A world in which versions of chat are announced; each has an engine of its own."""

    def __init__(self, folder: Path) -> None:
        self.world = ChatWorld(partitions=1)
        for topic in (MODEL_UPDATES, SWAP_ACKS):
            self.world.broker.create(topic.name, 1)
            self.world.ids.register(topic.subject, avro.schema(topic.record_name))
        self.folders = [tiny_llama(folder / name, note=name) for name in ("a", "b", "c")]
        self.engines = {self.version(number): ScriptedEngine() for number in range(3)}
        self.refused: list[str] = []

    def version(self, number: int) -> str:
        return open_source(f"file:{self.folders[number]}").version

    def load(self, folder: ModelFolder) -> ChatModel:
        if folder.version in self.refused:
            raise ModelRefused("it does not fit")
        return scripted_model(self.engines[folder.version])

    def followed(self) -> AnnouncedVersions:
        updates = MemoryBroadcast(self.world.broker, MODEL_UPDATES.name)
        common = self.world.ids, self.world.clock, "chat-0", Metrics()
        return AnnouncedVersions(updates, *common, self.world.plain.produce, self.load, f"file:{self.folders[0]}")

    def announce(self, number: int, model: str = "chat", **changes: Any) -> None:
        found = open_source(f"file:{self.folders[number]}")
        fields = {"model": model, "version": found.version, "uri": f"file:{self.folders[number]}", "digest": found.digest}
        update = ModelUpdate(**{**fields, "reason": "a test", "actor": "ada", "decided_ms": 1, **changes})
        value = Encoder.of(MODEL_UPDATES, self.world.ids).encode_one(update)
        self.world.plain.produce(OutRecords(MODEL_UPDATES.name, [b"chat"], [value], [[]]))

    def acks(self) -> list[dict[str, Any]]:
        polled = MemoryBroadcast(self.world.broker, SWAP_ACKS.name).poll()
        return [read_any(value, self.world.ids) for value in polled.values]

    def answered_by(self, request_id: str) -> str:
        (model,) = self.world.results()[request_id]["models"]
        return str(model["version"])


@pytest.fixture
def made(tmp_path: Path) -> Versions:
    return Versions(tmp_path)


def swap(made: Versions, loop: Any, number: int) -> None:
    def there() -> bool:
        made.world.clock.sleep(0.3)
        return bool(loop.step.report().versions == {"abc"[number]: made.version(number)})

    run_until([loop], there)


def acknowledged(made: Versions, count: int) -> bool:
    made.world.clock.sleep(0.3)
    return len(made.acks()) == count


def test_what_an_old_version_began_it_ends_and_new_requests_go_to_the_new_one(made: Versions) -> None:
    world, old, new = made.world, made.engines[made.version(0)], made.engines[made.version(1)]
    loop = world.loop(old, versions=made.followed())
    old.stuck = True
    world.ask("first", max_tokens=20)
    run_until([loop], lambda: old.added)
    made.announce(1)
    made.announce(2, model="moderation-text")
    swap(made, loop, 1)
    world.ask("second")
    run_until([loop], lambda: "second" in world.results())
    assert made.answered_by("second") == made.version(1)
    old.stuck = False
    world.cancel("nobody")
    old_thread = next(one.thread for one in loop.step._engines._all if one.served.version == made.version(0))  # type: ignore[attr-defined]
    old_thread.cancel("nobody")  # wakes it
    run_until([loop], lambda: "first" in world.results())
    assert made.answered_by("first") == made.version(0)
    assert [one.request_id.split("#")[0] for one in new.added] == ["second"]
    (ack,) = made.acks()
    assert (ack["model"], ack["version"], ack["previous"], ack["accepted"]) == ("chat", made.version(1), made.version(0), True)
    assert ack["first_offsets"] == [{"topic": "chat-requests-v1", "partition": 0, "offset": 1}]
    world.clock.sleep(OLD_KEPT_S + 1)
    loop.run_once()
    assert not old_thread._thread.is_alive()


def test_after_a_change_of_the_group_an_old_version_goes_on_with_what_it_began(made: Versions) -> None:
    world, old = made.world, made.engines[made.version(0)]
    loop = world.loop(old, versions=made.followed())
    old.steps_left = 3
    world.ask("r", max_tokens=20, seed=3)
    run_until([loop], lambda: len(world.streamed("r")) == 3)
    made.announce(1)
    swap(made, loop, 1)
    world.clock.sleep(OLD_KEPT_S + 1)
    loop.run_once()
    old.stuck, old.steps_left = False, 10**6
    loop.recovery.go_back()
    run_until([loop], lambda: world.results())
    assert made.answered_by("r") == made.version(0)
    assert world.results()["r"]["status"] == "ok"


def test_a_version_that_cannot_be_loaded_is_refused_and_a_new_worker_starts_with_the_newest_that_can(made: Versions) -> None:
    world = made.world
    loop = world.loop(ScriptedEngine(), versions=made.followed())
    made.announce(1)
    swap(made, loop, 1)
    made.refused.append(made.version(2))
    made.announce(2)
    run_until([loop], lambda: acknowledged(made, 1))
    (ack,) = made.acks()
    assert (ack["accepted"], ack["reason"]) == (False, "it does not fit")
    assert loop.step.report().versions == {"b": made.version(1)}
    assert "does not fit" in str(loop.step.report().notes)
    made.announce(1, digest="no digest")
    run_until([loop], lambda: acknowledged(made, 2))
    assert made.followed().current.served.version == made.version(1)


def test_challengers_of_chat_are_not_loaded_and_that_is_said(made: Versions) -> None:
    loop = made.world.loop(ScriptedEngine(), versions=made.followed())
    other = open_source(f"file:{made.folders[2]}")
    canary = Challenger(
        arm="canary", version=other.version, uri=f"file:{made.folders[2]}", digest=other.digest, share=0.5, salt="s"
    )
    made.announce(1, challengers=(canary,))
    swap(made, loop, 1)
    assert loop.step.report().notes == [LIVE_ONLY]
    from training_triggers.versions.promotion import challenge

    with pytest.raises(BadSettings, match="live version only"):
        challenge("chat", None, "canary", 0.5, "why", None, made.world.clock)  # type: ignore[arg-type]


def engine_threads() -> list[Thread]:
    return [thread for thread in enumerate_threads() if thread.name == "engine"]


def test_a_version_that_is_overtaken_while_it_loads_leaves_nothing_behind(made: Versions) -> None:
    world, gate, before = made.world, Event(), len(engine_threads())
    load = made.load

    def gated(folder: ModelFolder) -> ChatModel:
        if folder.version == made.version(1):
            assert gate.wait(60)
        return load(folder)

    made.load = gated  # type: ignore[method-assign]
    loop = world.loop(ScriptedEngine(), versions=made.followed())
    made.announce(1)
    loop.run_once()
    made.announce(2)
    gate.set()
    swap(made, loop, 2)
    until(lambda: len(engine_threads()) <= before + 2)
    assert len(engine_threads()) == before + 2, "the first version and the newest"


def test_a_checkpoint_is_read_once_at_the_start(made: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counted(text: str, digest: str | None = None) -> ModelFolder:
        opened.append(text)
        return open_source(text, digest)

    monkeypatch.setattr(chat_versions, "open_source", counted)
    made.followed()
    assert len(opened) == 1
