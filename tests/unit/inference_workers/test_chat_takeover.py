"""What an earlier owner, or anybody else, left on the topic of tokens, and what the next owner makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inference_workers.chat.engine import Generation
from inference_workers.chat_service.chat_loop import chat_plan
from inference_workers.chat_service.chat_step import REREADS, ChatStep
from inference_workers.settings import WorkerSettings
from schemas.chat_topics import CHAT_REQUESTS, CHAT_RESULTS, CHAT_TOKENS
from schemas.codec import Encoder
from schemas.errors import RetryLater, Stop
from schemas.generated import ChatToken, ChatTokens
from streams.rows import OutRecords
from streams.token_stream import TokenStream
from tests.support.chat_engine import ScriptedEngine, text_of
from tests.support.chat_world import ChatWorld, run_until


def put_tokens(world: ChatWorld, request_id: str, *tokens: tuple[int, str], key: str = "", **fields: Any) -> None:
    made = tuple(ChatToken(token=token, text=text) for token, text in tokens)
    record = ChatTokens(**{"request_id": request_id, "attempt": 1, "sequence": 0, "tokens": made, "version": "1", **fields})
    value = Encoder.of(CHAT_TOKENS, world.ids).encode_one(record)
    world.plain.produce(OutRecords(CHAT_TOKENS.name, [(key or request_id).encode()], [value], [[]]))


def whole(*numbers: int) -> list[tuple[int, str]]:
    return [(number, text_of(number)) for number in numbers]


@pytest.mark.parametrize(
    ("tokens", "fields", "words"),
    [
        ([(2**31 - 1, "x")], {}, "not in the vocabulary"),
        ([(-1, "x")], {}, "not in the vocabulary"),
        ([(3, "buy this")], {}, "the text at position 0"),
        (whole(*[3] * 13), {}, "more than the 12"),
        (whole(3), {"sequence": 5}, "missing from position 0"),
        (whole(3), {"last": True, "finish_reason": "gladly"}, "end with 'gladly'"),
        (whole(3), {"version": "9"}, "version 9 began"),
        ([(-7, "x")], {"attempt": 2**62}, "not in the vocabulary"),
    ],
)
def test_tokens_that_no_worker_wrote_fail_their_request_and_its_neighbour_is_answered(
    tokens: list[tuple[int, str]], fields: dict[str, Any], words: str
) -> None:
    world = ChatWorld(partitions=1)
    put_tokens(world, "r", *tokens, **fields)
    world.plain.produce(OutRecords(CHAT_TOKENS.name, [b"r"], [b"no record"], [[]]))
    world.ask("r")
    world.ask("good")
    loop = world.loop(ScriptedEngine())
    run_until([loop], lambda: len(world.results()) == 2)
    result, stream = world.results()["r"], TokenStream()
    assert (result["status"], result["error_code"]) == ("failed", "invalid")
    assert words in result["error_message"]
    world.streamed("r", stream)
    assert stream.end is not None, "who follows the stream waits for ever"
    assert world.results()["good"]["status"] == "ok"


def test_tokens_under_the_key_of_another_request_do_not_count() -> None:
    world = ChatWorld(partitions=1)
    put_tokens(world, "s", (-1, "x"), key="r")
    world.ask("r")
    run_until([world.loop(ScriptedEngine())], lambda: world.results())
    assert world.results()["r"]["status"] == "ok"


def test_what_was_answered_without_a_text_is_answered_so_again() -> None:
    """The owner died between its answers and the commit of their offsets, and the next one has room."""
    world = ChatWorld(partitions=1)
    engine = ScriptedEngine(max_waiting=1, stuck=True, refusing=ord("!"))
    loop = world.loop(engine)
    for name, text in (("first", "a"), ("busy", "b"), ("refused", "no!")):
        world.ask(name, text)
    run_until([loop], lambda: len(world.results()) == 2)
    before = world.results()
    assert (before["busy"]["status"], before["refused"]["error_code"]) == ("busy", "invalid")
    loop.source.close()
    loop.step.close()
    world.broker.groups["chat"].committed.clear()
    second = ScriptedEngine()
    run_until([world.loop(second, slot=1)], lambda: len(world.records(CHAT_RESULTS.name)) == 5)
    assert [one.request_id.split("#")[0] for one in second.added] == ["first"]
    for again in world.records(CHAT_RESULTS.name)[2:]:
        if again["request_id"] != "first":
            first = before[again["request_id"]]
            for name in ("status", "error_code", "error_message", "retry_after_ms"):
                assert again[name] == first[name], name


def test_the_version_of_an_answer_is_that_of_its_first_token() -> None:
    """Requests that only waited were begun by a version that made none of their tokens."""
    world = ChatWorld(partitions=1)
    put_tokens(world, "r", version="0")
    put_tokens(world, "r", *whole(3), attempt=2)
    world.ask("r")
    run_until([world.loop(ScriptedEngine())], lambda: world.results())
    assert (world.results()["r"]["status"], world.results()["r"]["error_message"]) == ("ok", None)


@pytest.mark.parametrize(("reason", "status"), [("failed", "failed"), ("busy", "busy")])
def test_an_answer_that_ended_without_a_text_after_some_tokens_says_why_again(reason: str, status: str) -> None:
    world = ChatWorld(partitions=1)
    put_tokens(world, "r", *whole(3), last=True, finish_reason=reason, error_message="m", error_code="poison")
    world.ask("r")
    run_until([world.loop(ScriptedEngine())], lambda: world.results())
    result = world.results()["r"]
    assert (result["status"], result["error_code"], result["error_message"]) == (status, "poison", "m")


def test_a_record_of_a_high_attempt_without_tokens_silences_no_answer() -> None:
    world = ChatWorld(partitions=1)
    put_tokens(world, "r", attempt=2**62)
    world.ask("r")
    run_until([world.loop(ScriptedEngine())], lambda: world.results())
    stream = TokenStream()
    assert "".join(token.text for token in world.streamed("r", stream)) == world.results()["r"]["text"] != ""
    assert stream.end is not None


def test_the_topic_is_read_back_once_for_many_requests() -> None:
    world = ChatWorld(partitions=1)
    loop = world.loop(ScriptedEngine(stuck=True))
    for i in range(20):
        world.ask(f"r{i}")
    run_until([loop], lambda: loop.assignment.in_flight_records == 20)
    loop.source.close()
    loop.step.close()
    world.read_back = 0
    run_until([world.loop(ScriptedEngine(), slot=1)], lambda: len(world.results()) == 20)
    assert world.read_back == 1


def test_attempts_rise_in_a_generation_for_ever_and_stop_before_they_repeat() -> None:
    step = world_step()
    attempts = []
    for _ in range(3_000):
        step.joined(7)
        attempts.append(step.attempt)
    assert attempts == sorted(set(attempts))
    step.joined(8)
    assert step.attempt > attempts[-1]
    step._rereads = REREADS - 1
    with pytest.raises(Stop, match="used up"):
        step.joined(8)


def world_step() -> ChatStep:
    step = ChatWorld().loop(ScriptedEngine()).step
    assert isinstance(step, ChatStep)
    return step


def test_batches_of_chat_are_small_whatever_the_settings_say() -> None:
    batches = chat_plan(WorkerSettings(max_batch_requests=500, max_batch_kib=8_192), lambda name: None).batches
    assert (batches.max_rows, batches.max_cost) == (8, 256 * 1024)


@pytest.mark.parametrize("error", [OverflowError("int too big to convert"), MemoryError()])
def test_a_request_on_which_the_engine_breaks_fails_alone(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    world = ChatWorld(partitions=1)
    engine = ScriptedEngine()
    monkeypatch.setattr(engine, "add", breaking(engine.add, error))
    world.ask("bad", "no!")
    world.ask("good")
    run_until([world.loop(engine)], lambda: len(world.results()) == 2)
    assert (world.results()["bad"]["status"], world.results()["bad"]["error_code"]) == ("failed", "poison")
    assert type(error).__name__ in world.results()["bad"]["error_message"]
    assert world.results()["good"]["status"] == "ok"


def breaking(add: Callable[[Generation], None], error: Exception) -> Callable[[Generation], None]:
    def broken(generation: Generation) -> None:
        if ord("!") in generation.prompt:
            raise error
        add(generation)

    return broken


def test_a_registry_that_does_not_answer_ends_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    world = ChatWorld(partitions=1)
    loop = world.loop(ScriptedEngine())
    assert isinstance(loop.step, ChatStep)

    def silent(values: list[bytes | None]) -> Any:
        raise RetryLater("the registry does not answer")

    monkeypatch.setattr(loop.step._decoder, "decode", silent)
    world.ask("r")
    run_until([loop], lambda: world.results())
    assert (world.results()["r"]["status"], world.results()["r"]["error_code"]) == ("failed", "gave-up")
    assert loop.assignment.offsets[CHAT_REQUESTS.name, 0] <= 1
