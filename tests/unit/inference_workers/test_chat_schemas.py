"""Answers that obey a JSON schema, by a model with random weights: only the constraint can make them valid."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import jsonschema_rs
import pytest

from inference_workers.chat.chat_model import ChatModel
from inference_workers.chat.engine import Engine, Finished, Generation, Sampling
from schemas.errors import InvalidRequest
from tests.support.generating import PROMPTS, chat_model, resumed, run
from tests.support.tiny_llama import tiny_llama

SCHEMAS = 100


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ChatModel:
    return chat_model(tiny_llama(tmp_path_factory.mktemp("llama")), max_running=16, step_tokens=64, max_waiting=200)


def schema(source: random.Random, depth: int = 0) -> dict[str, Any]:
    """A random schema whose answers have an end."""
    kinds = ["integer", "boolean", "enum", "const", "string", "null", "pattern"]
    kind = source.choice(kinds + ["object", "array", "any"] * (depth < 2) * 2)
    if kind == "object":
        names = source.sample(["name", "the thing", "é", "count", "tags"], source.randint(1, 3))
        properties = {name: schema(source, depth + 1) for name in names}
        return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}
    if kind == "array":
        fewest = source.randint(0, 2)
        return {"type": "array", "items": schema(source, depth + 1), "minItems": fewest, "maxItems": fewest + 1}
    leaves: dict[str, dict[str, Any]] = {
        "any": {"anyOf": [schema(source, depth + 1) for _ in range(2)]} if kind == "any" else {},
        "integer": {"type": "integer", "minimum": source.randint(-50, 5), "maximum": source.randint(6, 900)},
        "enum": {"enum": ["red", 'a "quoted" word', 3.5, None, True]},
        "const": {"const": {"k": [1, "x"]}},
        "string": {"type": "string", "maxLength": source.randint(1, 6)},
        "pattern": {"type": "string", "pattern": "^[a-c]{2}-[0-9]{1,3}$"},
    }
    return leaves.get(kind, {"type": kind})


def asked(number: int) -> tuple[dict[str, Any], Generation]:
    wanted = schema(random.Random(number))
    sampling = Sampling(max_tokens=300, temperature=1.0, seed=number, schema=json.dumps(wanted))
    return wanted, Generation(f"s{number}", PROMPTS[number % 6], sampling=sampling)


def test_answers_obey_a_hundred_schemas(model: ChatModel) -> None:
    requests = [asked(number) for number in range(SCHEMAS)]
    wanted = {one.request_id: given for given, one in requests}
    for name, (_, end) in run(model.engine, *(one for _, one in requests)).items():
        assert end.reason == "stop", (name, wanted[name], end)
        jsonschema_rs.validate(wanted[name], json.loads(end.text))


def test_a_resumed_answer_still_obeys(model: ChatModel) -> None:
    _, one = asked(8)
    tokens, end = run(model.engine, one)[one.request_id]
    for cut in range(0, len(tokens), 3):
        assert text_of(model.engine, resumed(one, [token.token for token in tokens[:cut]])) == end.text


def text_of(engine: Engine, one: Generation) -> str:
    (_, end) = run(engine, one)[one.request_id]
    assert isinstance(end, Finished)
    return end.text


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"type": "integer", "multipleOf": 1_000_003}, "multipleOf"),
        ({"type": "integer", "allOf": [{"multipleOf": 97}, {"multipleOf": 89}, {"multipleOf": 83}]}, "least common multiple"),
        (
            {"type": "object", "properties": {f"p{i}": {"type": "integer", "multipleOf": 9_000 + i} for i in range(50)}},
            "multipleOf",
        ),
        ({"type": "number", "multipleOf": 1e300}, "multipleOf 1"),
        ({"type": "number", "multipleOf": 4.000000007e-19}, "decimal places"),
        ({"type": "number", "allOf": [{"multipleOf": 7}, {"multipleOf": 3e-9}]}, "far apart"),
        ({"type": "number", "multipleOf": 1e-300}, "multipleOf 1"),
        ({"type": "number", "multipleOf": 0}, "multipleOf 0"),
        ({"type": "number", "multipleOf": float("inf")}, "schema"),
    ],
)
def test_a_schema_whose_numbers_would_take_all_time_and_memory_is_refused(
    model: ChatModel, wanted: dict[str, Any], words: str
) -> None:
    text = json.dumps(wanted)
    for given in (text, text.replace('{"type"', '{"multipleOf": 2, "type"', 1)):  # a name that comes twice does not hide one
        with pytest.raises(InvalidRequest, match=words):
            model.engine.add(Generation("r", (5,), sampling=Sampling(schema=given)))
    assert not model.engine.busy


@pytest.mark.parametrize("multiple", [7, 9_973, 0.5, 0.01])
def test_usual_multiples_are_obeyed(model: ChatModel, multiple: float) -> None:
    wanted = json.dumps({"type": "number", "multipleOf": multiple, "minimum": 0, "maximum": 99_999})
    one = Generation("r", (5,), sampling=Sampling(max_tokens=200, temperature=1.0, seed=1, schema=wanted))
    (_, end) = run(model.engine, one)["r"]
    assert end.reason == "stop"
    assert Decimal(end.text) % Decimal(str(multiple)) == 0
