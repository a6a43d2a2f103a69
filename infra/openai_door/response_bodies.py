"""Our tokens and results as bodies of OpenAI's API. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from streams.token_stream import StreamedToken

Form = Literal["chat", "completion"]
IMPROBABLE = -9999.0  # what OpenAI's API has for a token of no probability: JSON has no infinity
PREFIX: Mapping[Form, str] = {"chat": "chatcmpl-", "completion": "cmpl-"}
OBJECTS: Mapping[Form, str] = {"chat": "chat.completion", "completion": "text_completion"}
STATUSES = {"busy": 429, "expired": 504, "failed": 500}  # of results, in HTTP
REASONS = {"cancelled": "stop", "expired": "length"}  # where OpenAI's API has no word of its own


class Refused(Exception):
    """An error as OpenAI's API has it. status: of HTTP."""

    def __init__(self, status: int, message: str, code: str, retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.retry_after_ms = status, message, code, retry_after_ms

    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 429 else "rate_limit_error" if self.status == 429 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": None, "code": self.code}}


def refused(result: Mapping[str, Any]) -> Refused:
    """A result without an answer."""
    status = 400 if result["error_code"] == "invalid" else STATUSES.get(result["status"], 500)
    return Refused(status, result["error_message"] or "", result["error_code"] or "failed", result.get("retry_after_ms", 0))


@dataclass(frozen=True)
class AnswerForm:
    """What all chunks of an answer share. created_s: since the epoch."""

    form: Form
    request_id: str
    created_s: int
    model: str
    logprobs: bool = False

    def answer(self, result: Mapping[str, Any], tokens: Sequence[StreamedToken]) -> dict[str, Any]:
        """A whole answer. tokens: with logprobs only."""
        text: dict[str, Any] = (
            {"message": {"role": "assistant", "content": result["text"], "refusal": None}}
            if self.form == "chat"
            else {"text": result["text"]}
        )
        choice = {"index": 0, **text, "finish_reason": reason(result["finish_reason"]), "logprobs": self._logprobs(tokens)}
        return {**self._head(OBJECTS[self.form]), "choices": [choice], "usage": usage(result)}

    def chunk(self, token: StreamedToken, *, first: bool) -> dict[str, Any]:
        text: dict[str, Any]
        if self.form == "chat":
            text = {"delta": {**({"role": "assistant"} if first else {}), "content": token.text}}
        else:
            text = {"text": token.text}
        choice = {"index": 0, **text, "finish_reason": None, "logprobs": self._logprobs([token])}
        return {**self._head(self._chunk), "choices": [choice]}

    def last(self, finish_reason: str) -> dict[str, Any]:
        text: dict[str, Any] = {"delta": {}} if self.form == "chat" else {"text": ""}
        choice = {"index": 0, **text, "finish_reason": reason(finish_reason), "logprobs": None}
        return {**self._head(self._chunk), "choices": [choice]}

    def usage(self, end: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._head(self._chunk), "choices": [], "usage": usage(end)}

    @property
    def _chunk(self) -> str:
        return "chat.completion.chunk" if self.form == "chat" else "text_completion"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": PREFIX[self.form] + self.request_id, "object": kind, "created": self.created_s, "model": self.model}

    def _logprobs(self, tokens: Sequence[StreamedToken]) -> dict[str, Any] | None:
        if not self.logprobs or not tokens:
            return None
        if self.form == "chat":
            return {"content": [_logprob(token) for token in tokens], "refusal": None}
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{one["text"]: one["logprob"] for one in token.alternatives} for token in tokens],
            "text_offset": [],
        }


def reason(finish_reason: str) -> str:
    return REASONS.get(finish_reason, finish_reason)


def usage(fields: Mapping[str, Any]) -> dict[str, Any]:
    """fields: of a result, or of the last record of tokens."""
    prompt, answer = fields["prompt_tokens"], fields["completion_tokens"]
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": fields["cached_tokens"]},
    }


def event(data: Mapping[str, Any] | str, position: int | None = None) -> bytes:
    """A server-sent event. position: from which a reader that is cut off here goes on."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return (f"id: {position}\n" if position is not None else "").encode() + f"data: {text}\n\n".encode()


def _logprob(token: StreamedToken) -> dict[str, Any]:
    def named(text: str, logprob: float | None) -> dict[str, Any]:
        finite = logprob if logprob is None or math.isfinite(logprob) else IMPROBABLE
        return {"token": text, "logprob": finite, "bytes": list(text.encode())}

    return {
        **named(token.text, token.logprob),
        "top_logprobs": [named(one["text"], one["logprob"]) for one in token.alternatives],
    }
