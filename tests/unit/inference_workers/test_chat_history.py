"""Conversations that the service keeps: a request holds what is new, and the earlier turns come from the results on the topic."""

from __future__ import annotations

from typing import Any

import pytest

from inference_workers.chat_service import history
from schemas.chat_topics import CHAT_RESULTS
from schemas.codec import Encoder
from schemas.errors import BrokerUnavailable
from schemas.generated import ChatMessage, ChatResult
from streams.rows import OutRecords
from tests.support.chat_engine import ScriptedEngine
from tests.support.chat_world import ChatWorld, run_until


def say(world: ChatWorld, request_id: str, text: str, conversation_id: str = "c", **fields: Any) -> None:
    messages = (ChatMessage(role="user", content=text),)
    world.ask(
        request_id, **{"messages": messages, "conversation_id": conversation_id, "continues": True, "max_tokens": 4, **fields}
    )


def prompt_of(engine: ScriptedEngine, request_id: str) -> str:
    (one,) = [one for one in engine.added if one.request_id.split("#")[0] == request_id]
    return "".join(map(chr, one.prompt))


def talk(world: ChatWorld, loop: Any, *texts: str, conversation_id: str = "c") -> list[str]:
    """Say these one after the other. Returns the answers."""
    answers = []
    for i, text in enumerate(texts):
        request_id = f"{conversation_id}-{text}-{i}"
        say(world, request_id, text, conversation_id)
        run_until([loop], lambda request_id=request_id: request_id in world.results())  # type: ignore[misc]
        answers.append(world.results()[request_id]["text"])
    return answers


def test_earlier_turns_come_before_what_is_new_also_for_the_next_owner() -> None:
    world, engine = ChatWorld(partitions=2), ScriptedEngine()
    loop = world.loop(engine)
    first, second = talk(world, loop, "one", "two")
    talk(world, loop, "other", conversation_id="d")
    assert prompt_of(engine, "c-one-0") == "one"
    assert prompt_of(engine, "c-two-1") == f"one\n{first}\ntwo"
    assert world.results()["c-two-1"]["history_messages"] == 2
    assert prompt_of(engine, "d-other-0") == "other"
    loop.source.close()
    loop.step.close()
    successor = ScriptedEngine()
    other = world.loop(successor, slot=1)
    say(world, "third", "three")
    run_until([other], lambda: "third" in world.results())
    assert prompt_of(successor, "third") == f"one\n{first}\ntwo\n{second}\nthree"


def test_a_request_that_is_read_again_has_the_turns_before_it_and_not_those_behind_it() -> None:
    world = ChatWorld(partitions=1)
    loop = world.loop(ScriptedEngine())
    first, _, _ = talk(world, loop, "one", "two", "three")
    loop.source.close()
    loop.step.close()
    world.broker.groups["chat"].committed.clear()
    for place in [place for place in world.broker.logs if place[0] == "chat-tokens-v1"]:
        world.broker.logs[place].clear()  # their retention is over
    engine = ScriptedEngine()
    run_until([world.loop(engine, slot=1)], lambda: len(world.records(CHAT_RESULTS.name)) >= 6 or len(engine.added) == 3)
    assert prompt_of(engine, "c-two-1") == f"one\n{first}\ntwo"


def test_a_message_before_the_last_one_was_answered_is_busy_and_others_are_not() -> None:
    world, engine = ChatWorld(partitions=1), ScriptedEngine(stuck=True)
    loop = world.loop(engine)
    say(world, "first", "one")
    say(world, "second", "two")
    say(world, "elsewhere", "hello", conversation_id="d")
    run_until([loop], lambda: world.results() and len(engine.added) == 2)
    refused = world.results()["second"]
    assert (refused["status"], refused["error_code"], refused["retry_after_ms"] > 0) == ("busy", "conversation-busy", True)
    engine.stuck = False
    say(world, "third", "wake up", conversation_id="e")
    run_until([loop], lambda: len(world.results()) == 4)
    assert world.results()["elsewhere"]["status"] == "ok"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conversation_id": None}, "without a conversation_id"),
        ({"conversation_id": "x" * 129}, "129 characters"),
        ({"conversation_id": ""}, "0 characters"),
        ({"messages": (), "prompt": "text"}, "continues no conversation"),
        ({"messages": (ChatMessage(role="user", content="x" * 70_000),)}, "70000 characters"),
    ],
)
def test_what_continues_nothing_is_refused(fields: dict[str, Any], words: str) -> None:
    world = ChatWorld(partitions=1)
    say(world, "r", "hello", **fields)
    run_until([world.loop(ScriptedEngine())], lambda: world.results())
    assert world.results()["r"]["error_code"] == "invalid"
    assert words in world.results()["r"]["error_message"]


def test_a_key_of_its_own_is_refused() -> None:
    world = ChatWorld(partitions=1)
    world.ask("r", conversation_id="c", continues=True, key="elsewhere")
    run_until([world.loop(ScriptedEngine())], lambda: world.results())
    assert "the key" in world.results()["r"]["error_message"]


def put_result(world: ChatWorld, offset: int, *messages: ChatMessage, text: str = "yes") -> None:
    record = ChatResult(
        request_id=f"r{offset}",
        status="ok",
        origin_topic="chat-requests-v1",
        origin_partition=0,
        origin_offset=offset,
        text=text,
        finish_reason="stop",
        asked=messages,
        conversation_id="c",
    )
    value = Encoder.of(CHAT_RESULTS, world.ids).encode_one(record)
    world.plain.produce(OutRecords(CHAT_RESULTS.name, [b"c"], [value], [[]]))


@pytest.mark.parametrize(
    ("dots", "kept"),
    [(40, ["q-5", "yes", "q-4", "yes", "q-3", "yes"]), (80, ["q-4", "yes", "q-3", "yes"])],
    ids=["turns", "characters"],
)
def test_turns_are_limited_and_foreign_results_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, dots: int, kept: list[str]
) -> None:
    monkeypatch.setattr(history, "MOST_TURNS", 3)
    world, engine = ChatWorld(partitions=1), ScriptedEngine()
    for offset in range(-10, -2):
        put_result(world, offset, ChatMessage(role="user", content=f"q{offset}" + "." * dots))
    put_result(world, -1, ChatMessage(role="root", content="obey"))
    world.plain.produce(OutRecords(CHAT_RESULTS.name, [b"c"], [b"no record"], [[]]))
    say(world, "r", "now")
    run_until([world.loop(engine)], lambda: any(one.request_id.startswith("r#") for one in engine.added))
    prompt = prompt_of(engine, "r")
    assert [line[:3] for line in prompt.split("\n")] == [*kept, "now"]
    assert len(prompt) < 200, "the characters of the world's history"


def test_a_conversation_that_cannot_be_read_fails_its_request_and_no_worker() -> None:
    world, engine = ChatWorld(partitions=1), ScriptedEngine()
    loop = world.loop(engine)

    def down(read: Any) -> Any:
        raise BrokerUnavailable("no broker")

    step: Any = loop.step
    whole, step._history._open = step._history._open, down
    say(world, "r", "hello")
    run_until([loop], lambda: world.results())
    assert (world.results()["r"]["status"], world.results()["r"]["error_code"]) == ("failed", "gave-up")
    step._history._open = whole
    say(world, "s", "hello")
    run_until([loop], lambda: "s" in world.results())
    assert world.results()["s"]["status"] == "ok"


def test_a_reader_that_broke_is_opened_anew_behind_what_was_read() -> None:
    world = ChatWorld(partitions=1)
    loop = world.loop(ScriptedEngine())
    step: Any = loop.step
    whole, opened, reads, broken = step._history._open, list[dict[Any, int]](), list[int](), [False]

    class Breaking:
        def __init__(self, results: Any) -> None:
            self._results = results

        def parts_to_end(self, limit_s: float) -> Any:
            reads.append(1)
            if broken[0]:
                raise BrokerUnavailable("its place is gone")
            return self._results.parts_to_end(limit_s)

        def close(self) -> None:
            self._results.close()

    def opening(read: Any) -> Any:
        opened.append(dict(read))
        broken[0] = False
        return Breaking(whole({}))

    step._history._open = opening
    put_result(world, -1, ChatMessage(role="user", content="q"))
    for number in range(5):
        say(world, f"r{number}", "hello", conversation_id=f"c{number}")
    run_until([loop], lambda: world.results().keys() >= {f"r{number}" for number in range(5)})
    assert len(reads) <= 2, "the topic is read once for a batch"
    broken[0] = True
    say(world, "bad", "hello", conversation_id="x")
    run_until([loop], lambda: "bad" in world.results())
    say(world, "good", "hello", conversation_id="y")
    run_until([loop], lambda: "good" in world.results())
    assert (world.results()["bad"]["error_code"], world.results()["good"]["status"]) == ("gave-up", "ok")
    assert opened[0] == {}
    assert opened[1][CHAT_RESULTS.name, 0] >= 1, "it goes on where the first stood"
