"""The engine before a server, with a small real server that streams as vLLM does, and misbehaves in each way that was thought of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from inference_workers.chat.chat_model import ChatModel
from inference_workers.chat.engine import Engine, Event, Finished, Full, Generation, Refused, Sampling, Token
from inference_workers.chat.settings import EngineSettings
from inference_workers.chat_remote import remote_engine, server_streams
from inference_workers.chat_remote.remote_model import remote_model
from inference_workers.chat_remote.settings import ServerKind, ServerSettings
from inference_workers.models.addresses import open_tokenizer
from infra.local.processes import free_port
from schemas.errors import BadSettings, InvalidRequest, ModelRefused
from streams.clock import SystemClock
from streams.process.settings import load, origins
from tests.support.completion_server import Answer, Asked, CompletionServer, completion_server, continued
from tests.support.tiny_llama import tiny_llama
from tests.support.waiting import until

PROMPT = (1, 70, 71, 72)
END = 2
SCHEMA = json.dumps(
    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("remote"))


@pytest.fixture
def server(folder: Path) -> Iterator[CompletionServer]:
    with completion_server(lambda tokens: decode(folder, tokens)) as made:
        yield made


def decode(folder: Path, tokens: Sequence[int]) -> str:
    return str(Tokenizer.from_file(str(folder / "tokenizer.json")).decode(list(tokens)))


@contextmanager
def opened(folder: Path, address: str, engine: dict[str, Any] | None = None, **server: Any) -> Iterator[ChatModel]:
    settings = ServerSettings(**{"chat_backend": address, "chat_server_wait_s": 5.0, **server})
    model, _ = remote_model(open_tokenizer(f"file:{folder}"), settings, EngineSettings(**(engine or {})), SystemClock())
    try:
        yield model
    finally:
        model.engine.close()


def asked(name: str = "r", emitted: Sequence[int] = (), prompt: Sequence[int] = PROMPT, **sampling: Any) -> Generation:
    return Generation(name, tuple(prompt), tuple(emitted), Sampling(**{"max_tokens": 8, **sampling}))


def stepped(engine: Engine, done: Callable[[list[Event]], object], limit_s: float = 60.0) -> list[Event]:
    events: list[Event] = []
    until_s = time.monotonic() + limit_s
    while not done(events):
        assert time.monotonic() < until_s, f"not done within the limit: {events}"
        events += engine.step()
    return events


def run(engine: Engine, *generations: Generation) -> dict[str, tuple[list[Token], Finished | Refused]]:
    """Tokens and end of each. Fails if their texts are not those of the end."""
    for generation in generations:
        engine.add(generation)
    events = stepped(engine, lambda _: not engine.busy)
    found: dict[str, tuple[list[Token], Finished | Refused]] = {}
    for generation in generations:
        mine = [event for event in events if event.request_id == generation.request_id]
        *tokens, end = mine
        assert not isinstance(end, Token) and all(isinstance(token, Token) for token in tokens)
        made = [token for token in tokens if isinstance(token, Token)]
        assert [token.sequence for token in made] == list(range(len(generation.emitted), len(generation.emitted) + len(made)))
        if isinstance(end, Finished) and not generation.emitted:
            assert "".join(token.text for token in made) == end.text
        found[generation.request_id] = made, end
    return found


def one(engine: Engine, generation: Generation) -> tuple[list[Token], Finished]:
    tokens, end = run(engine, generation)[generation.request_id]
    assert isinstance(end, Finished), end
    return tokens, end


def ids(tokens: list[Token]) -> list[int]:
    return [token.token for token in tokens]


# --- a server that works ------------------------------------------------------------------------------------------


def test_an_answer_is_the_servers_with_reason_usage_and_times(folder: Path, server: CompletionServer) -> None:
    with opened(folder, server.address, chat_server_model="m", chat_server_key="k1") as model:
        tokens, end = one(model.engine, asked(temperature=0.5, top_p=0.9, seed=-7))
    assert ids(tokens) == continued(list(PROMPT), 8)
    assert (end.reason, end.prompt_tokens, end.completion_tokens) == ("length", 4, 8)
    assert end.text == decode(folder, ids(tokens)) and end.time_to_first_token_ms > 0
    body = server.bodies[0]
    assert (body["model"], body["prompt"], body["max_tokens"], body["stream"]) == ("m", list(PROMPT), 8, True)
    assert (body["temperature"], body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (0.5, 0.9, -1, 0, 1)
    assert 0 <= body["seed"] < 2**31 and body["stop_token_ids"] == [END]
    assert server.headers[0]["Authorization"] == "Bearer k1"


def test_an_answer_goes_on_from_what_another_worker_made(folder: Path, server: CompletionServer) -> None:
    with opened(folder, server.address) as model:
        whole, _ = one(model.engine, asked("a"))
        rest, end = one(model.engine, asked("b", emitted=ids(whole)[:3]))
        _, ended = one(model.engine, asked("c", emitted=[*ids(whole)[:3], END]))
        _, full = one(model.engine, asked("d", emitted=ids(whole)))
    assert ids(whole)[3:] == ids(rest) and end.completion_tokens == 8
    assert end.text == decode(folder, ids(whole))
    assert server.bodies[1]["prompt"] == [*PROMPT, *ids(whole)[:3]] and server.bodies[1]["max_tokens"] == 5
    assert server.bodies[0]["seed"] != server.bodies[1]["seed"], "the rest would repeat the random numbers of the beginning"
    assert (ended.reason, full.reason, len(server.bodies)) == ("stop", "length", 2)


def test_the_end_of_a_turn_is_a_token_also_where_the_server_names_none(folder: Path, server: CompletionServer) -> None:
    def named(asked: Asked) -> None:
        asked.begin()
        asked.token(70)
        asked.token(END, finish_reason="stop", text="")

    def unnamed(asked: Asked) -> None:
        asked.begin()
        asked.choice(text="d")
        asked.choice(text="", finish_reason="stop")

    server.answers = [named, unnamed]
    with opened(folder, server.address) as model:
        tokens, end = one(model.engine, asked("a"))
        others, other = one(model.engine, asked("b"))
    assert ids(tokens) == [70, END] and ids(others)[-1] == END
    assert (end.reason, other.reason, other.text) == ("stop", "stop", "d")


def test_stop_texts_cut_the_answer_and_close_the_stream(folder: Path, server: CompletionServer) -> None:
    text = decode(folder, continued(list(PROMPT), 200))
    server.between_s = 0.002
    with opened(folder, server.address) as model:
        tokens, end = one(model.engine, asked(max_tokens=200, stop=(text[5:8],)))
        wanted = text[: text.index(text[5:8])]
        assert (end.reason, end.text) == ("stop", wanted) and len(tokens) == len(wanted) + 3
        until(lambda: server.gone == 1)
    assert "stop" not in server.bodies[0]


def test_text_without_ids_becomes_tokens_that_say_the_same(folder: Path, server: CompletionServer) -> None:
    pieces = ["Hi <|end|>", " é中", "👍", "the\n", " thanks"]

    def text(asked: Asked) -> None:
        asked.begin()
        for piece in pieces:
            asked.choice(text=piece)
        asked.choice(text="", finish_reason="stop")

    server.answers = [text]
    with opened(folder, server.address) as model:
        tokens, end = one(model.engine, asked(max_tokens=100))
    assert end.text == "".join(pieces) and END not in ids(tokens)[:-1]
    assert decode(folder, ids(tokens)[:-1]) == end.text


def test_logprobs_are_told_where_the_server_tells_them(folder: Path, server: CompletionServer) -> None:
    def told(asked: Asked) -> None:
        asked.begin()
        asked.token(70, logprobs={"tokens": ["token_id:70"], "token_logprobs": [-0.5], "top_logprobs": [{"token_id:9": -0.4}]})
        asked.end()

    server.answers = [told]
    with opened(folder, server.address) as model:
        (token,), end = one(model.engine, asked(logprobs=1))
    assert (token.logprob, token.alternatives, end.mean_logprob) == (-0.5, ((9, -0.4),), -0.5)
    assert server.bodies[0]["logprobs"] == 1
    with (
        opened(folder, server.address, chat_server_kind=ServerKind.SGLANG) as model,
        pytest.raises(InvalidRequest, match="sglang"),
    ):
        model.engine.add(asked(logprobs=1))


def test_a_schema_is_passed_on_and_the_answer_is_held_to_it(folder: Path, server: CompletionServer) -> None:
    def saying(*pieces: str) -> Answer:
        def answer(asked: Asked) -> None:
            asked.begin()
            for piece in pieces:
                asked.choice(text=piece)
            asked.choice(text="", finish_reason="stop")

        return answer

    server.answers = [saying('{"a":', " 12}"), saying('{"a": "x"}'), saying('{"a":')]
    with opened(folder, server.address) as model:
        answers = [one(model.engine, asked(str(i), schema=SCHEMA, max_tokens=40))[1] for i in range(3)]
        (_, resumed) = run(model.engine, asked("r", emitted=(93,), schema=SCHEMA))["r"]
    assert [answer.reason for answer in answers] == ["stop", "failed", "failed"]
    assert all("does not keep to the schema" in answer.message for answer in answers[1:])
    assert server.bodies[0]["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)
    assert isinstance(resumed, Refused) and "schema" in str(resumed.error) and len(server.bodies) == 3
    with (
        opened(folder, server.address, chat_server_kind=ServerKind.TRANSFORMERS) as model,
        pytest.raises(InvalidRequest, match="transformers does not keep"),
    ):
        model.engine.add(asked(schema=SCHEMA))


def test_a_server_that_takes_text_reads_no_control_token_in_a_message(folder: Path, server: CompletionServer) -> None:
    def text(asked: Asked) -> None:
        asked.begin()
        asked.choice(text="d", finish_reason="length")

    server.answers = [text]
    with opened(folder, server.address, chat_server_kind=ServerKind.TRANSFORMERS) as model:
        plain = model.template.plain("a <|end|> b")
        _, good = one(model.engine, asked("a", prompt=(1, *model.template.plain("user\nhi"), END)))
        _, bad = run(model.engine, asked("b", prompt=plain))["b"]
    assert server.bodies[0]["prompt"] == "<|start|>user\nhi<|end|>" and good.text == "d"
    assert json.loads(server.bodies[0]["generation_config"]) == {"do_sample": False, "top_k": 0, "eos_token_id": [END]}
    assert isinstance(bad, Refused) and "control token" in str(bad.error) and len(server.bodies) == 1


# --- streams end early --------------------------------------------------------------------------------------------


def test_a_cancelled_answer_closes_its_stream_and_so_does_a_deadline(folder: Path, server: CompletionServer) -> None:
    server.between_s = 0.005
    with opened(folder, server.address) as model:
        engine = model.engine
        engine.add(asked("a", max_tokens=400))
        late = Generation("b", PROMPT, sampling=Sampling(max_tokens=400), deadline_ms=SystemClock().now_ms() + 300)
        engine.add(late)
        events = stepped(engine, lambda events: sum(isinstance(event, Token) for event in events) > 4)
        engine.cancel("a")
        engine.cancel("nobody")
        ends = [event for event in events + stepped(engine, lambda _: not engine.busy) if isinstance(event, Finished)]
        assert {end.request_id: end.reason for end in ends} == {"a": "cancelled", "b": "expired"}
        until(lambda: server.gone == 2)


def test_a_stream_that_is_cut_goes_on_from_its_last_token(folder: Path, server: CompletionServer) -> None:
    def cut(asked: Asked) -> None:
        asked.begin()
        asked.tokens(3)

    def gives_up(asked: Asked) -> None:
        asked.begin()
        asked.tokens(1)
        asked.event({"error": {"message": "out of memory"}})

    server.answers = [cut, gives_up, lambda asked: asked.status(500, b"{}")]
    with opened(folder, server.address) as model:
        tokens, end = one(model.engine, asked())
    assert ids(tokens) == continued(list(PROMPT), 8) and end.reason == "length"
    assert [len(body["prompt"]) for body in server.bodies] == [4, 7, 8, 8]


def test_a_server_that_fails_again_and_again_fails_the_request(
    folder: Path, server: CompletionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_engine, "FIRST_PAUSE_S", 0.001)
    server.answers = [lambda asked: asked.status(500, b'{"error": {"message": "a bug"}}')] * 5
    with opened(folder, server.address) as model:
        _, end = one(model.engine, asked())
        _, next_end = one(model.engine, asked("b"))
    assert (end.reason, "500: a bug" in end.message, next_end.reason) == ("failed", True, "length")


# --- a server that is away ----------------------------------------------------------------------------------------


def test_answers_are_held_back_while_the_server_is_away(folder: Path) -> None:
    port = free_port()
    with opened(folder, f"http://127.0.0.1:{port}/v1", engine={"max_waiting": 2}) as model:
        engine = model.engine
        engine.add(asked("a"))
        stepped(engine, lambda _: getattr(engine, "trouble", ""))
        engine.add(asked("b"))
        with pytest.raises(Full, match="cannot be reached") as full:
            engine.add(asked("c"))
        assert full.value.retry_after_ms > 0 and engine.figures().waiting == 2
        with completion_server(lambda tokens: decode(folder, tokens), port):
            ends = [event for event in stepped(engine, lambda _: not engine.busy) if isinstance(event, Finished)]
    assert [end.reason for end in ends] == ["length", "length"] and getattr(engine, "trouble", None) == ""


@pytest.mark.parametrize("status", [401, 404, 302, 502])
def test_what_is_wrong_with_the_server_is_no_fault_of_a_request(folder: Path, server: CompletionServer, status: int) -> None:
    server.answers = [lambda asked: asked.status(status, b"<html>no</html>", Location="/elsewhere")]
    with opened(folder, server.address) as model:
        assert one(model.engine, asked())[1].reason == "length"
    assert len(server.bodies) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_busy_for_new_requests_and_waited_for_in_the_middle(
    folder: Path, server: CompletionServer, status: int
) -> None:
    def busy(asked: Asked) -> None:
        asked.status(status, b'{"error": "too many"}', Retry_After="1")

    server.answers = [busy, busy]
    with opened(folder, server.address) as model:
        _, fresh = run(model.engine, asked("a"))["a"]
        _, begun = one(model.engine, asked("b", emitted=continued(list(PROMPT), 2)))
    assert isinstance(fresh, Refused) and isinstance(fresh.error, Full)
    assert (fresh.error.retry_after_ms, f"{status}: too many" in str(fresh.error)) == (1000, True)
    assert begun.reason == "length"


@pytest.mark.parametrize("body", [b'{"error": {"message": "%s"}}', b'{"detail": "%s"}', b"%s"])
def test_a_refusal_is_the_requests_own_with_the_servers_words_cut(folder: Path, server: CompletionServer, body: bytes) -> None:
    server.answers = [lambda asked: asked.status(400, body.replace(b"%s", b"too long " + b"x" * 9_000))]
    with opened(folder, server.address) as model:
        _, end = run(model.engine, asked())["r"]
    assert isinstance(end, Refused) and isinstance(end.error, InvalidRequest)
    assert "400: too long xxx" in str(end.error) and len(str(end.error)) < 500


# --- junk ---------------------------------------------------------------------------------------------------------


def junk(*events: Any) -> Answer:
    def answer(asked: Asked) -> None:
        asked.begin()
        for event in events:
            asked.event(event)

    return answer


def choice(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": "d", **fields}]}


def endless(asked: Asked) -> None:
    asked.begin()
    for _ in range(1_000):
        asked.raw(b"data: " + b"x" * 65_536)


def html(asked: Asked) -> None:
    asked.begin("text/html")
    asked.raw(b"<html>")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (junk(b"{"), "no JSON"),
        (junk(b"[" * 100_000), "no JSON"),
        (junk([1]), "no object"),
        (junk({"choices": 3}), "without choices"),
        (junk({"choices": [None]}), "without choices"),
        (junk(choice(text=7)), "is no text"),
        (junk(choice(finish_reason=True)), "is no text"),
        (junk(choice(finish_reason="tool_calls")), "tool_calls"),
        (junk(choice(token_ids=[True])), "whole numbers"),
        (junk(choice(token_ids=[10**9], text="")), "the model has"),
        (junk(choice(token_ids=[70], text="zzz")), "another tokenizer"),
        (junk(choice(token_ids=[70], text="", logprobs={"token_logprobs": ["x"]})), "another form"),
        (junk(b'{"choices": [{"text": "", "token_ids": [70], "logprobs": {"token_logprobs": [NaN]}}]}'), "another form"),
        (junk(choice(text="x" * 3_000_000)), "more than 2097152 bytes"),
        (junk(choice(text="x" * 1_000_000)), "1000000 characters"),
        (endless, "more than 2097152 bytes"),
        (html, "text/html"),
    ],
)
def test_junk_fails_its_request_alone(folder: Path, server: CompletionServer, answer: Answer, words: str) -> None:
    server.answers = [answer]
    with opened(folder, server.address) as model:
        _, end = one(model.engine, asked())
        _, other = one(model.engine, asked("b"))
    assert (end.reason, other.reason) == ("failed", "length")
    assert words in end.message and len(end.message) < 500


def test_streams_without_tokens_end(folder: Path, server: CompletionServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_engine, "FIRST_PAUSE_S", 0.001)

    def empty(asked: Asked) -> None:
        asked.begin()
        while True:
            asked.choice(text="")

    def comments(asked: Asked) -> None:
        asked.begin()
        while True:
            asked.raw(b": still here\n\n")
            time.sleep(0.01)

    server.answers = [empty, *[comments] * 5]
    with opened(folder, server.address, chat_server_wait_s=0.2) as model:
        assert "without a token" in one(model.engine, asked("a"))[1].message
        assert "WAIT_S" in one(model.engine, asked("b"))[1].message
    assert server_streams.MOST_UNREAD >= 1_000


# --- bounds and settings ------------------------------------------------------------------------------------------


def test_as_many_streams_as_the_settings_allow_by_priority(folder: Path, server: CompletionServer) -> None:
    server.gate.clear()
    with opened(folder, server.address, engine={"max_running": 2}) as model:
        engine = model.engine
        for number in range(6):
            engine.add(Generation(str(number), PROMPT, sampling=Sampling(max_tokens=2), priority=number))
        stepped(engine, lambda events: sum(isinstance(event, Token) for event in events) >= 2)
        assert (engine.figures().running, engine.figures().waiting, len(server.bodies)) == (2, 4, 2)
        server.gate.set()
        ends = [event.request_id for event in stepped(engine, lambda _: not engine.busy) if isinstance(event, Finished)]
    assert sorted(ends) == ["0", "1", "2", "3", "4", "5"]
    # A request starts when all of higher priority have started, so at most one of those may still run when it ends.
    assert all(sum(later > one for later in ends[at:]) <= 1 for at, one in enumerate(ends))


def test_what_does_not_fit_is_refused_before_the_server_is_asked(folder: Path, server: CompletionServer) -> None:
    with opened(folder, server.address, chat_server_context=10) as model:
        assert model.context_tokens == 10
        with pytest.raises(InvalidRequest, match="would have 12 tokens; the server takes 10"):
            model.engine.add(asked())
    assert not server.bodies


@pytest.mark.parametrize("address", ["", "here", "ftp://h/v1", "http://u:p@h/v1", "http://h/v1?key=x", "http://h:99999/v1"])
def test_addresses_that_are_none_are_refused(folder: Path, address: str) -> None:
    with pytest.raises(BadSettings, match="MILLRACE_CHAT_BACKEND"), opened(folder, address):
        pass


def test_the_key_is_never_shown_and_must_fit_a_header() -> None:
    env = {"MILLRACE_CHAT_SERVER_KEY": "hush-1"}
    settings = load(ServerSettings, env)
    assert settings.chat_server_key == "hush-1" and "hush" not in repr(settings)
    assert {setting.value for setting in origins(ServerSettings, env) if "KEY" in setting.name} == {"***"}
    with pytest.raises(BadSettings, match="ASCII") as error:
        server_streams.ServerStreams("http://h/v1", "a\nb", 1.0)
    assert "a\nb" not in str(error.value)


def test_a_folder_needs_a_tokenizer_and_no_weights(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with opened(tmp_path, "http://127.0.0.1:9/v1") as model:
        assert model.template.plain("hello")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelRefused, match=r"tokenizer\.json"), opened(tmp_path, "http://127.0.0.1:9/v1"):
        pass
