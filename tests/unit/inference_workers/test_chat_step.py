"""The chat worker on the in-memory broker: tokens in order, one result for each request, whoever owns it."""

from __future__ import annotations

from typing import Any

import pytest

from inference_workers.chat.engine import Generation, Sampling
from inference_workers.chat_service.requests import seed_of
from schemas.chat_topics import CHAT_REQUESTS, CHAT_RESULTS, CHAT_TOKENS
from schemas.generated import ChatMessage
from schemas.topics import PREDICTION_LOG
from streams.token_stream import TokenStream
from tests.support.chat_engine import END, ScriptedEngine, text_of, token_at
from tests.support.chat_world import ChatWorld, run_until
from training_triggers.drift.detect import of_log


def expected(request_id: str, text: str = "hello", max_tokens: int = 12, seed: int | None = None) -> list[int]:
    """The tokens of an undisturbed answer."""
    sampling = Sampling(max_tokens=max_tokens, seed=seed_of(request_id) if seed is None else seed)
    generation = Generation("", tuple(map(ord, text)), sampling=sampling)
    tokens: list[int] = []
    while len(tokens) < max_tokens and END not in tokens:
        tokens.append(token_at(generation, len(tokens)))
    return tokens


def tokens_of(world: ChatWorld, request_id: str) -> list[int]:
    return [token.token for token in world.streamed(request_id)]


def test_each_request_has_its_tokens_in_order_and_one_result() -> None:
    world = ChatWorld()
    loop = world.loop(ScriptedEngine())
    ids = [f"r{i}" for i in range(10)]
    for request_id in ids:
        world.ask(request_id, conversation_id="c")
    run_until([loop], lambda: len(world.results()) == 10)
    for request_id in ids:
        wanted, result = expected(request_id), world.results()[request_id]
        assert tokens_of(world, request_id) == wanted
        assert result["text"] == "".join(map(text_of, wanted))
        assert (result["status"], result["conversation_id"], result["prompt_tokens"]) == ("ok", "c", 5)
        assert result["finish_reason"] == ("stop" if END in wanted else "length")
        assert result["completion_tokens"] == len(wanted)
        assert [model["version"] for model in result["models"]] == ["1"]
    assert len(world.records(CHAT_RESULTS.name)) == 10


def test_the_first_record_of_an_answer_comes_before_its_tokens_and_the_last_is_marked() -> None:
    world = ChatWorld()
    loop = world.loop(ScriptedEngine())
    world.ask("r", max_tokens=3)
    run_until([loop], lambda: world.results())
    records = world.records(CHAT_TOKENS.name)
    assert (records[0]["tokens"], records[0]["last"]) == ([], False)
    assert [record["last"] for record in records] == [False] * (len(records) - 1) + [True]
    assert records[-1]["completion_tokens"] == len(expected("r", max_tokens=3))
    assert {record["model"] for record in records} == {"scripted"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": ()}, "messages is empty"),
        ({"messages": (ChatMessage(role="robot", content="x"),)}, "role is 'robot'"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 2.0}, "top_p is 2"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": 100_000}, "at most 256"),
        ({"stop": tuple(str(i) for i in range(10_000))}, "stop has 10000 texts"),
        ({"messages": (ChatMessage(role="user", content="a\x1b[2Jb"),)}, "control character U+001B"),
        ({"messages": (ChatMessage(role="user", content="x" * 500_000),)}, "too many"),
        ({"prompt": "and a prompt"}, "both given"),
        ({"messages": (), "prompt": ""}, "prompt is empty"),
        ({"response_schema": "{"}, "not JSON"),
        ({"logprobs": 100}, "logprobs is 100"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_field_and_its_neighbour_is_answered(
    fields: dict[str, Any], words: str
) -> None:
    world = ChatWorld(partitions=1)
    loop = world.loop(ScriptedEngine())
    world.ask("bad", **fields)
    world.ask("good")
    run_until([loop], lambda: len(world.results()) == 2)
    refused = world.results()["bad"]
    assert (refused["status"], refused["error_code"]) == ("failed", "invalid")
    assert words in refused["error_message"]
    stream = TokenStream()
    world.streamed("bad", stream)
    assert stream.reason == "failed" and words in (stream.end or {})["error_message"]
    assert tokens_of(world, "good") == expected("good")


def test_an_answer_that_the_engine_cannot_make_ends_as_failed() -> None:
    world = ChatWorld(partitions=1)
    loop = world.loop(ScriptedEngine(failing=ord("!")))
    world.ask("bad", "no!")
    world.ask("good")
    run_until([loop], lambda: len(world.results()) == 2)
    assert (world.results()["bad"]["status"], world.results()["bad"]["error_code"]) == ("failed", "poison")
    assert world.results()["good"]["status"] == "ok"


def test_a_full_queue_is_answered_busy_with_a_time_to_retry() -> None:
    world = ChatWorld(partitions=1)
    engine = ScriptedEngine(max_waiting=2, stuck=True)
    loop = world.loop(engine)
    for i in range(5):
        world.ask(f"r{i}")
    run_until([loop], lambda: len(world.results()) == 3)
    assert {(one["status"], one["error_code"], one["retry_after_ms"]) for one in world.results().values()} == {
        ("busy", "full", 700)
    }
    engine.stuck = False
    loop.step.close()


def test_a_cancelled_answer_ends_with_what_there_is_and_a_cancellation_may_come_first() -> None:
    world = ChatWorld(partitions=1)
    engine = ScriptedEngine(stuck=True)
    loop = world.loop(engine)
    world.cancel("early")
    world.cancel("early", action="dance")  # nobody knows what that is
    run_until([loop], lambda: loop.assignment.offsets)
    world.clock.sleep(1.0)
    loop.run_once()
    world.ask("early")
    world.ask("late")
    run_until([loop], lambda: len(engine.added) == 1 and "early" in world.results())
    world.cancel("late")
    world.clock.sleep(1.0)
    run_until([loop], lambda: len(world.results()) == 2)
    assert {one["finish_reason"] for one in world.results().values()} == {"cancelled"}
    assert {one["status"] for one in world.results().values()} == {"ok"}


def test_the_same_request_twice_is_answered_once_and_both_offsets_end() -> None:
    world = ChatWorld(partitions=1)
    engine = ScriptedEngine(stuck=True)
    loop = world.loop(engine)
    world.ask("r")
    world.ask("r")
    run_until([loop], lambda: engine.added)
    engine.stuck = False
    world.cancel("nobody")  # wakes nothing
    world.ask("s")
    run_until([loop], lambda: len(world.results()) == 2 and loop.assignment.offsets[CHAT_REQUESTS.name, 0] == 3)
    assert [one.request_id.split("#")[0] for one in engine.added] == ["r", "s"]
    assert tokens_of(world, "r") == expected("r")


def test_the_next_owner_continues_from_the_tokens_on_the_topic() -> None:
    world = ChatWorld()
    loop = world.loop(ScriptedEngine(max_running=2, steps_left=5))
    ids = [f"r{i}" for i in range(6)]
    for request_id in ids:
        world.ask(request_id, max_tokens=100)
    run_until([loop], lambda: sum(len(tokens_of(world, one)) for one in ids) == 10)
    before = world.results()
    loop.source.close()
    second = ScriptedEngine()
    other = world.loop(second, slot=1)
    run_until([other], lambda: len(world.results()) == 6)
    for request_id in ids:
        assert tokens_of(world, request_id) == expected(request_id, max_tokens=100)
        assert world.results()[request_id]["text"] == "".join(map(text_of, expected(request_id, max_tokens=100)))
    assert len(before) < 6
    resumed = [one for one in second.added if one.emitted]
    assert resumed, "the second owner began every answer anew"
    attempts = {record["attempt"] for record in world.records(CHAT_TOKENS.name)}
    assert len(attempts) == 2


def test_tokens_of_an_owner_that_lost_the_request_do_not_count() -> None:
    world = ChatWorld(partitions=1)
    stopped = ScriptedEngine(stuck=True)
    loop = world.loop(stopped)
    world.ask("r", max_tokens=40)
    run_until([loop], lambda: stopped.added)
    loop.source.close()
    other = world.loop(ScriptedEngine(), slot=1)
    run_until([other], lambda: world.results())
    late = dict(world.records(CHAT_TOKENS.name)[0], sequence=0, last=True, finish_reason="stop")
    late["tokens"] = [{"token": 7, "text": "late ", "logprob": None, "alternatives": []}]
    stream = TokenStream()
    for record in [*world.records(CHAT_TOKENS.name)[:2], late, *world.records(CHAT_TOKENS.name)[2:]]:
        stream.take(record)
    assert stream.reason != "" and stream.sequence == len(expected("r", max_tokens=40))


def test_an_answer_that_had_ended_is_not_made_again() -> None:
    """The owner died between the last token and the commit of the offset."""
    world = ChatWorld(partitions=1)
    loop = world.loop(ScriptedEngine())
    world.ask("r")
    run_until([loop], lambda: world.results())
    first = world.results()["r"]
    loop.source.close()
    world.broker.groups["chat"].committed.clear()
    second = ScriptedEngine()
    other = world.loop(second, slot=1)
    run_until([other], lambda: len(world.records(CHAT_RESULTS.name)) == 2)
    again = world.records(CHAT_RESULTS.name)[1]
    assert second.added == []
    for name in ("text", "finish_reason", "completion_tokens", "prompt_tokens", "time_to_first_token_ms", "ms_per_token"):
        assert again[name] == first[name], name


def test_an_answer_that_had_ended_keeps_the_version_that_made_it() -> None:
    world = ChatWorld(partitions=1)
    loop = world.loop(ScriptedEngine())
    world.ask("r")
    run_until([loop], lambda: world.results())
    loop.source.close()
    world.broker.groups["chat"].committed.clear()
    second = ScriptedEngine()
    run_until([world.loop(second, slot=1, version="2")], lambda: len(world.records(CHAT_RESULTS.name)) == 2)
    first, again = world.records(CHAT_RESULTS.name)
    assert second.added == []
    assert (again["status"], again["text"], again["models"][0]["version"]) == ("ok", first["text"], "1")


def test_another_version_does_not_go_on_with_an_answer() -> None:
    world = ChatWorld(partitions=1)
    loop = world.loop(ScriptedEngine(steps_left=2))
    world.ask("r", max_tokens=200)
    run_until([loop], lambda: len(tokens_of(world, "r")) == 2)
    loop.source.close()
    other = world.loop(ScriptedEngine(), slot=1, version="2")
    run_until([other], lambda: world.results())
    assert "version 1 began this answer" in world.results()["r"]["error_message"]


def test_a_long_answer_holds_back_no_more_than_the_span() -> None:
    world = ChatWorld(partitions=1)
    engine = ScriptedEngine(max_running=1, max_waiting=100, stuck=True)
    loop = world.loop(engine, span_records=5)
    for i in range(30):
        world.ask(f"r{i}")
    run_until([loop], lambda: len(engine.added) >= 5)
    for _ in range(20):
        loop.run_once()
    assert len(engine.added) < 5 + 8 + 1, "a batch more than the span at most"
    engine.stuck = False
    world.cancel("r0")
    world.clock.sleep(1.0)
    run_until([loop], lambda: len(world.results()) == 30)


def test_each_answer_is_in_the_prediction_log_once_as_drift_detectors_read_it() -> None:
    world = ChatWorld(partitions=1)
    loop = world.loop(ScriptedEngine())
    world.ask("r", max_tokens=3)
    world.ask("refused", max_tokens=0)
    run_until([loop], lambda: len(world.results()) == 2)
    (record,) = world.records(PREDICTION_LOG.name)
    extracted = of_log(record)
    assert extracted is not None
    model, version, _, names, values = extracted
    entry, result = dict(zip(names, values[0].tolist(), strict=True)), world.results()["r"]
    assert (model, version, record["request_ids"]) == ("chat", "1", ["r"])
    assert entry["completion_tokens"] == result["completion_tokens"]
    assert entry["prompt_tokens"] == result["prompt_tokens"] and entry["characters"] == len(result["text"])
    assert [name for name in names if name.startswith("output ") and entry[name]] == [f"output {result['finish_reason']}"]
    assert {"said", "mean_logprob", "truncated_messages"} <= set(names)
    loop.source.close()
    world.broker.groups["chat"].committed.clear()
    other = world.loop(ScriptedEngine(), slot=1)
    run_until([other], lambda: len(world.records(CHAT_RESULTS.name)) == 4)
    assert len(world.records(PREDICTION_LOG.name)) == 1
