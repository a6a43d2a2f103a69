"""Bodies of OpenAI's API as fields of our requests. Pure. Everything here raises InvalidRequest with the field that is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import InvalidRequest

DEFAULT_MAX_TOKENS = 512
NOT_SUPPORTED = ("tools", "functions", "tool_choice", "audio", "logit_bias", "best_of", "suffix")
NEUTRAL = ("presence_penalty", "frequency_penalty")
ANY_JSON = "{}"
MOST_NUMBER = 10**300


@dataclass(frozen=True)
class Body:
    """fields: of a chat request. with_usage: whether a stream ends with the usage."""

    fields: dict[str, Any]
    model: str
    stream: bool
    with_usage: bool
    logprobs: bool


def chat(body: Mapping[str, Any]) -> Body:
    messages = _of(body, "messages", list, required=True)
    fields = _common(body)
    fields["messages"] = [_message(message, i) for i, message in enumerate(messages)]
    logprobs = bool(_of(body, "logprobs", bool, False))
    fields["logprobs"] = max(1, _of(body, "top_logprobs", int, 0)) if logprobs else 0
    fields["response_schema"] = _schema(_of(body, "response_format", dict, None))
    return _body(body, fields, logprobs)


def completion(body: Mapping[str, Any]) -> Body:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, str):
        raise InvalidRequest("prompt must be one text")
    fields = _common(body)
    fields["prompt"] = prompt
    fields["logprobs"] = _of(body, "logprobs", int, 0)
    return _body(body, fields, fields["logprobs"] > 0)


def embedding_texts(body: Mapping[str, Any], most: int) -> list[str]:
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("input must be a text, or a list of texts")
    if len(texts) > most:
        raise InvalidRequest(f"input has {len(texts)} texts; at most {most} are taken at once")
    if body.get("encoding_format", "float") not in ("float", "base64"):
        raise InvalidRequest("encoding_format must be float or base64")
    if body.get("dimensions") is not None:
        raise InvalidRequest("dimensions is not supported: the model's width is what it is")
    return texts


def _body(body: Mapping[str, Any], fields: dict[str, Any], logprobs: bool) -> Body:
    options = _of(body, "stream_options", dict, None) or {}
    model = _of(body, "model", str, "")
    return Body(fields, model, _of(body, "stream", bool, False), options.get("include_usage") is True, logprobs)


def _common(body: Mapping[str, Any]) -> dict[str, Any]:
    for name in NOT_SUPPORTED:
        if body.get(name):
            raise InvalidRequest(f"{name} is not supported here")
    for name in NEUTRAL:
        if _of(body, name, float, 0.0) != 0:
            raise InvalidRequest(f"{name} is not supported here; it may be 0")
    if _of(body, "n", int, 1) != 1:
        raise InvalidRequest("n must be 1: each request has one answer")
    stop = body.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or not all(isinstance(text, str) for text in stop):
        raise InvalidRequest("stop must be a text, or a list of texts")
    most = _of(body, "max_completion_tokens", int, None) or _of(body, "max_tokens", int, None)
    return {
        "temperature": _of(body, "temperature", float, 1.0),
        "top_p": _of(body, "top_p", float, 1.0),
        "max_tokens": most or DEFAULT_MAX_TOKENS,
        "stop": stop,
        "seed": _of(body, "seed", int, None),
    }


def _message(message: Any, i: int) -> dict[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise InvalidRequest(f"messages[{i}] must be an object with a role and a content")
    content = message.get("content")
    if isinstance(content, list):
        if not all(
            isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content
        ):
            raise InvalidRequest(f"messages[{i}].content has a part that is no text: the model reads texts only")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise InvalidRequest(f"messages[{i}].content must be a text")
    return {"role": "system" if message["role"] == "developer" else message["role"], "content": content}


def _schema(form: dict[str, Any] | None) -> str | None:
    match (form or {}).get("type", "text"):
        case "text":
            return None
        case "json_object":
            return ANY_JSON
        case "json_schema":
            schema = (form or {}).get("json_schema")
            if isinstance(schema, dict) and isinstance(schema.get("schema"), dict):
                return json.dumps(schema["schema"])
            raise InvalidRequest("response_format.json_schema must be an object with a schema")
    raise InvalidRequest("response_format.type must be text, json_object or json_schema")


def _of(body: Mapping[str, Any], name: str, kind: type[Any], default: Any = None, *, required: bool = False) -> Any:
    """A field of a kind; a whole number is a float too. null counts as absent."""
    value = body.get(name)
    if value is None:
        if required:
            raise InvalidRequest(f"{name} is missing")
        return default
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = value if -MOST_NUMBER < value < MOST_NUMBER else math.inf  # a worker refuses infinity, and names the field
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise InvalidRequest(f"{name} must be a {kind.__name__}")
    return value
