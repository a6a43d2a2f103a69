"""What each kind of server is asked on `/v1/completions`, and what its events say. Pure.

All take the sampling that a request names and nothing of their own defaults. Stop texts are not sent: answers are cut here, in the
same way for each server. Written after the protocols of vLLM and SGLang; llama.cpp and `transformers serve` are tested as they run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference_workers.chat.engine import Generation
from inference_workers.chat_remote.settings import ServerKind
from schemas.errors import PoisonRecord, RetryLater

MOST_PIECE_CHARACTERS = 16_384  # of one event
MOST_WORDS = 300  # of a server, in a message
SEEDS = 2**31 - 1  # all servers take these

TEXT_PROMPTS = (ServerKind.TRANSFORMERS,)  # the others take token ids
SCHEMAS = (ServerKind.VLLM, ServerKind.SGLANG, ServerKind.LLAMA_CPP)
LOGPROBS = (ServerKind.VLLM, ServerKind.LLAMA_CPP)  # with token ids: others name alternatives by text

Alternatives = tuple[tuple[int, float], ...]


class Junk(PoisonRecord):
    """An event that no such server sends."""

    code = "server-junk"


class Broken(RetryLater):
    """The server gave an answer up in the middle."""

    code = "server-broken"


@dataclass(frozen=True, slots=True)
class Weight:
    """The log probability of a token. token: None where the server does not name its id."""

    token: int | None
    logprob: float
    alternatives: Alternatives = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What an event adds to an answer. tokens: None where the server gives text alone. reason: why the answer ends; empty if it goes
    on. cached_tokens: of the prompt; None if it is not said."""

    text: str
    tokens: tuple[int, ...] | None = None
    weights: tuple[Weight, ...] = ()
    reason: str = ""
    cached_tokens: int | None = None


def body(
    kind: ServerKind, model: str, generation: Generation, made: Sequence[int], prompt: str | list[int], ends: Sequence[int]
) -> dict[str, Any]:
    """made: tokens of the answer so far, which the prompt ends with. ends: tokens that end an answer."""
    sampling = generation.sampling
    fields: dict[str, Any] = {
        "prompt": prompt,
        "stream": True,
        "max_tokens": sampling.max_tokens - len(made),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": (sampling.seed + len(made)) % SEEDS,  # what follows a prefix must not repeat the random numbers of its beginning
    }
    if model:
        fields["model"] = model
    if kind is ServerKind.TRANSFORMERS:  # refuses what it does not know; this replaces the model's own defaults
        plain = {"do_sample": sampling.temperature > 0, "top_k": 0, "eos_token_id": list(ends)}
        return fields | {"generation_config": json.dumps(plain)}
    fields |= {"min_p": 0.0, "stream_options": {"include_usage": True}}
    if sampling.logprobs:
        fields["logprobs"] = sampling.logprobs
    schema = None if sampling.schema is None else json.loads(sampling.schema)
    if kind is ServerKind.LLAMA_CPP:
        fields |= {"top_k": 0, "repeat_penalty": 1.0}
        return fields if schema is None else fields | {"json_schema": schema}
    fields |= {"top_k": -1, "repetition_penalty": 1.0, "stop_token_ids": list(ends), "return_token_ids": True}
    if sampling.logprobs:
        fields["return_tokens_as_token_ids"] = True
    if schema is not None:
        fields["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    return fields


def part(data: str) -> Part:
    """One event. Raises Junk, and Broken if it is an error."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Junk(f"the server sent an event that is no JSON: {data[:60]!r}") from error
    if not isinstance(event, dict):
        raise Junk(f"the server sent an event that is no object: {data[:60]!r}")
    if event.get("error"):
        raise Broken(f"the server gave up: {words(event)}")
    cached = _inner(_inner(event, "usage"), "prompt_tokens_details").get("cached_tokens")
    cached_tokens = cached if type(cached) is int and 0 <= cached < 2**31 else None
    choices = event.get("choices")
    if choices == []:
        return Part("", cached_tokens=cached_tokens)
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise Junk("the server sent an event without choices")
    choice = choices[0]
    text, reason, tokens = choice.get("text") or "", choice.get("finish_reason") or "", choice.get("token_ids")
    if not isinstance(text, str) or not isinstance(reason, str):
        raise Junk("the server sent an event whose text or finish_reason is no text")
    if len(text) > MOST_PIECE_CHARACTERS:
        raise Junk(f"the server sent {len(text)} characters in one event; at most {MOST_PIECE_CHARACTERS} are taken")
    if tokens is not None and not (isinstance(tokens, list) and all(type(token) is int for token in tokens)):
        raise Junk("the server sent token_ids that are no list of whole numbers")
    weights = _weights(_inner(choice, "logprobs"), tokens or [])
    return Part(text, None if tokens is None else tuple(tokens), weights, reason, cached_tokens)


def words(answer: object) -> str:
    """What a server says of an error, in one short line."""
    said = answer
    for name in ("error", "message", "detail"):
        if isinstance(said, Mapping) and said.get(name):
            said = said[name]
    text = said if isinstance(said, str) else json.dumps(said, default=str)
    return "".join(character if character.isprintable() else " " for character in text[:MOST_WORDS])


def _inner(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _weights(logprobs: Mapping[str, Any], tokens: Sequence[int]) -> tuple[Weight, ...]:
    """In llama.cpp's form, or in that of vLLM, which names alternatives as `token_id:7`."""
    try:
        if "content" in logprobs:
            return tuple(
                Weight(
                    row["id"], _finite(row["logprob"]), tuple((one["id"], _finite(one["logprob"])) for one in row["top_logprobs"])
                )
                for row in logprobs["content"]
            )
        values, named = logprobs.get("token_logprobs") or [], logprobs.get("top_logprobs") or []
        if len(values) != len(tokens):
            return ()
        rows = [named[i] if i < len(named) and named[i] else {} for i in range(len(values))]
        return tuple(
            Weight(token, _finite(value), tuple((int(name.removeprefix("token_id:")), _finite(p)) for name, p in row.items()))
            for token, value, row in zip(tokens, values, rows, strict=True)
        )
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise Junk(f"the server sent logprobs of another form: {error!r:.80}") from error


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{value!r:.40} is no log probability")
    return float(value)
