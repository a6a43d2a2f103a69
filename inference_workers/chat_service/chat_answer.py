"""An answer under way, from the row that asked for it to the records of its tokens and its result. No clock, no engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from inference_workers.chat.engine import Finished, Token
from inference_workers.chat_service.requests import ChatInput
from schemas.generated import ChatAlternative, ChatToken, ChatTokens
from schemas.vocabulary import FinishReason
from streams.rows import Rows

TokenText = Callable[[int], str]


@dataclass(slots=True)
class Answer:
    """rows: the request, and repeats of it that came meanwhile. key: the engine's name for it. sequence: the position of the next token.
    first_ms: when the first token was made, also by an earlier owner; 0 before. emitted: tokens that an
    earlier owner made. text: of all tokens on the topic. resumed: whether one began it. passed: whether moderation lets the prompt pass.
    judged_to: so many tokens were given to moderation. cut: why moderation ends the answer; empty if it does not."""

    rows: Rows
    input: ChatInput
    key: str
    attempt: int
    started_ms: int
    sequence: int = 0
    first_ms: int = 0
    emitted: tuple[int, ...] = ()
    text: str = ""
    resumed: bool = False
    passed: bool = False
    judged_to: int = 0
    cut: str = ""
    waiting: list[Token] = field(default_factory=list)  # made, and not on the topic yet

    @property
    def request_id(self) -> str:
        return self.rows.request_ids[0]

    def begun(self) -> ChatTokens:
        """The record that begins an attempt: whoever reads it knows which model answers, and that lower attempts ended."""
        return self._record(self.started_ms, ())

    def tokens(self, now_ms: int, text_of: TokenText) -> ChatTokens:
        """The record of the tokens that wait."""
        waiting, self.waiting = self.waiting, []
        self.first_ms = self.first_ms or now_ms
        self.text += "".join(token.text for token in waiting)
        record = self._record(now_ms, [_chat_token(token, text_of) for token in waiting])
        self.sequence += len(waiting)
        return record

    def first_token_ms(self) -> float:
        """From the broker's timestamp of the request to the first token."""
        return float(max(0, self.first_ms - self.rows.timestamps_ms[0])) if self.first_ms else 0.0

    def usage(self, ended: Finished) -> dict[str, Any]:
        """Fields that the last record of tokens and the result share."""
        return {
            "finish_reason": FinishReason.CONTENT_FILTER.value if self.cut else ended.reason,
            "prompt_tokens": ended.prompt_tokens,
            "completion_tokens": ended.completion_tokens,
            "cached_tokens": ended.cached_tokens,
            "truncated_messages": self.input.truncated_messages,
            "time_to_first_token_ms": self.first_token_ms(),
            "ms_per_token": ended.ms_per_token,
        }

    def _record(self, now_ms: int, tokens: Sequence[ChatToken]) -> ChatTokens:
        return ChatTokens(
            request_id=self.request_id, attempt=self.attempt, sequence=self.sequence, tokens=tuple(tokens), made_ms=now_ms
        )


def _chat_token(token: Token, text_of: TokenText) -> ChatToken:
    named = tuple(ChatAlternative(token=one, text=text_of(one), logprob=logprob) for one, logprob in token.alternatives)
    return ChatToken(token=token.token, text=token.text, logprob=token.logprob, alternatives=named)
