"""Messages to the tokens of a prompt, in the form that the model was trained on: its chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """role: one of ROLES."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """tokens: token ids. dropped_messages: how many of the oldest messages after the system message did not fit."""

    tokens: tuple[int, ...]
    dropped_messages: int


class ChatTemplate(Protocol):
    def prompt(self, messages: Sequence[Message], max_tokens: int) -> Prompt:
        """The tokens of a conversation, up to where the answer begins. Whole turns (a user's message and what follows it) are dropped
        from the oldest on, never the system message and the last turn, until at most max_tokens are left. Text in messages is never
        read as a control token. Raises InvalidRequest: no messages, unknown role, more characters than are read, or a last turn that
        alone has too many tokens."""
        ...

    def plain(self, text: str) -> tuple[int, ...]:
        """The tokens of a text without a template, for completions. Raises InvalidRequest if it has too many characters."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens; bytes that are no whole character become U+FFFD. Control tokens are left out."""
        ...
