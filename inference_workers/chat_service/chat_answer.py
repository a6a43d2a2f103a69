"""An answer under way, from the row that asked for it to the records of its tokens and its result. No clock, no engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inference_workers.chat.engine import Finished, Token
from inference_workers.chat_service.requests import ChatInput
from inference_workers.chat_service.serving import Served, Serving
from schemas.generated import ChatAlternative, ChatToken, ChatTokens
from schemas.vocabulary import FinishReason
from streams.rows import Rows

MOST_IN_A_RECORD = 256  # tokens; with 20 alternatives each they are far from the limit of a record


@dataclass(slots=True)
class Review:
    """passed: whether moderation lets the prompt pass. cleared: so many tokens of the answer pass. asked: how many the verdict will
    cover that is awaited; None if none is. cut: why moderation ends the answer; empty if it does not."""

    passed: bool = False
    cleared: int = 0
    asked: int | None = None
    cut: str = ""


@dataclass(slots=True)
class Answer:
    """rows: the request, and repeats of it that came meanwhile. fields: of the request. serving: the version that answers. key: the engine's name for it. sequence: the position of the next token.
    first_ms: when the first token was made, also by an earlier owner; 0 before. emitted: tokens that an
    earlier owner made. text: of all tokens on the topic. resumed: whether one began it. ended: what the engine said at its end.
    review: what moderation says of it."""

    rows: Rows
    fields: Mapping[str, object]
    input: ChatInput
    serving: Serving
    key: str
    attempt: int
    started_ms: int
    sequence: int = 0
    first_ms: int = 0
    emitted: tuple[int, ...] = ()
    text: str = ""
    resumed: bool = False
    ended: Finished | None = None
    review: Review = field(default_factory=Review)
    waiting: list[Token] = field(default_factory=list)  # made, and not on the topic yet

    @property
    def served(self) -> Served:
        return self.serving.served

    @property
    def request_id(self) -> str:
        return self.rows.request_ids[0]

    def begun(self) -> ChatTokens:
        """The record that begins an attempt: whoever reads it knows which model answers, and that lower attempts ended."""
        return self._record(self.started_ms, ())

    @property
    def made(self) -> int:
        """Tokens of the answer so far, also those that are not on the topic yet."""
        return self.sequence + len(self.waiting)

    @property
    def made_text(self) -> str:
        return self.text + "".join(token.text for token in self.waiting)

    def tokens(self, count: int = MOST_IN_A_RECORD) -> ChatTokens:
        """The record of the first `count` tokens that wait; there is at least one."""
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        self.first_ms = self.first_ms or taken[0].made_ms
        self.text += "".join(token.text for token in taken)
        record = self._record(taken[-1].made_ms, [_chat_token(token, self.served.text_of) for token in taken])
        self.sequence += len(taken)
        return record

    def cancelled(self) -> Finished:
        """The end of an answer that the engine does not have, or will not get."""
        return Finished(self.key, "cancelled", self.text, len(self.input.prompt), self.sequence)

    def first_token_ms(self) -> float:
        """From the broker's timestamp of the request to the first token."""
        return float(max(0, self.first_ms - self.rows.timestamps_ms[0])) if self.first_ms else 0.0

    def usage(self, ended: Finished) -> dict[str, Any]:
        """Fields that the last record of tokens and the result share."""
        return {
            "finish_reason": FinishReason.CONTENT_FILTER.value if self.review.cut else ended.reason,
            "prompt_tokens": ended.prompt_tokens,
            "completion_tokens": self.made if self.review.cut else ended.completion_tokens,
            "cached_tokens": ended.cached_tokens,
            "truncated_messages": self.input.truncated_messages,
            "time_to_first_token_ms": self.first_token_ms(),
            "ms_per_token": ended.ms_per_token,
        }

    def _record(self, made_ms: int, tokens: Sequence[ChatToken]) -> ChatTokens:
        return ChatTokens(
            request_id=self.request_id,
            attempt=self.attempt,
            sequence=self.sequence,
            tokens=tuple(tokens),
            made_ms=made_ms,
            model=self.served.name,
            version=self.served.version,
        )


def _chat_token(token: Token, text_of: Callable[[int], str]) -> ChatToken:
    named = tuple(ChatAlternative(token=one, text=text_of(one), logprob=logprob) for one, logprob in token.alternatives)
    return ChatToken(token=token.token, text=token.text, logprob=token.logprob, alternatives=named)
