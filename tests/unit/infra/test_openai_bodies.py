"""Bodies of OpenAI's API as our requests, and our answers as theirs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.openai_door import request_bodies
from infra.openai_door.response_bodies import AnswerForm, event, refused
from schemas import avro
from schemas.catalogue import consumption
from schemas.errors import InvalidRequest
from schemas.field_fit import misfit
from schemas.generated import ChatRequest
from streams.token_stream import StreamedToken

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def test_a_chat_body_fills_a_request_of_ours() -> None:
    body = request_bodies.chat(
        {
            **HELLO,
            "model": "m",
            "temperature": 0,
            "top_p": 0.5,
            "max_tokens": None,
            "max_completion_tokens": 7,
            "stop": "END",
            "seed": 3,
            "logprobs": True,
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    assert (body.model, body.stream, body.with_usage, body.logprobs) == ("m", True, True, True)
    request = ChatRequest(**body.fields)
    assert (request.max_tokens, list(request.stop), request.seed) == (7, ["END"], 3)
    assert (request.logprobs, request.temperature) == (1, 0.0)
    assert json.loads(request.response_schema or "") == {"type": "object"}
    known = {field["name"]: field["type"] for field in avro.schema(consumption("chat").topic.record_name)["fields"]}
    assert not any(misfit(value, known[name], name) for name, value in body.fields.items())


def test_parts_of_text_are_one_text_and_developers_are_the_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = request_bodies.chat({"messages": [{"role": "developer", "content": parts}]})
    assert body.fields["messages"] == [{"role": "system", "content": "ab"}]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": None}, "messages is missing"),
        ({"messages": "hello"}, "messages must be a list"),
        ({"messages": [3]}, "messages\\[0\\] must be an object"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "no text"),
        ({"n": 2}, "n must be 1"),
        ({"tools": [{}]}, "tools is not supported"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"temperature": "hot"}, "temperature must be a float"),
        ({"temperature": True}, "temperature must be a float"),
        ({"stop": 3}, "stop must be"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "json_schema must be"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        request_bodies.chat({**HELLO, **change})


def test_embeddings_take_texts() -> None:
    assert request_bodies.embedding_texts({"input": "a"}, 2) == ["a"]
    refused_bodies: list[dict[str, Any]] = [
        {},
        {"input": []},
        {"input": [[1, 2]]},
        {"input": ["a"] * 3},
        {"input": "a", "encoding_format": "hex"},
    ]
    for wrong in refused_bodies:
        with pytest.raises(InvalidRequest):
            request_bodies.embedding_texts(wrong, 2)


def test_chunks_name_the_position_from_which_a_reader_goes_on() -> None:
    form = AnswerForm("chat", "r", 5, "m", logprobs=True)
    token = StreamedToken(3, 9, "é", -0.5, [{"token": 9, "text": "é", "logprob": -0.5}])
    lines = event(form.chunk(token, first=False), 4).decode().split("\n")
    assert lines[0] == "id: 4"
    chunk = json.loads(lines[1].removeprefix("data: "))
    assert (chunk["id"], chunk["object"]) == ("chatcmpl-r", "chat.completion.chunk")
    assert chunk["choices"][0]["delta"] == {"content": "é"}
    assert chunk["choices"][0]["logprobs"]["content"][0]["bytes"] == [0xC3, 0xA9]


@pytest.mark.parametrize(
    ("status", "code", "http", "kind"),
    [
        ("busy", "full", 429, "rate_limit_error"),
        ("failed", "invalid", 400, "invalid_request_error"),
        ("failed", "poison", 500, "server_error"),
        ("expired", "deadline", 504, "server_error"),
    ],
)
def test_results_without_an_answer_are_errors_of_http(status: str, code: str, http: int, kind: str) -> None:
    error = refused({"status": status, "error_code": code, "error_message": "why", "retry_after_ms": 1500})
    assert (error.status, error.body()["error"]["type"], error.retry_after_ms) == (http, kind, 1500)
