"""A chat engine without a model: its tokens follow from prompt, seed and position alone, as those of a seeded engine do."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from inference_workers.chat.chat_model import ChatModel
from inference_workers.chat.conversation import ROLES, Message, Prompt
from inference_workers.chat.engine import EngineFigures, Finished, Full, Generation, Reason, Token
from schemas.errors import InvalidRequest

END = 0  # the token that ends the model's turn
WORDS = 50


def token_at(generation: Generation, position: int) -> int:
    """One answer in WORDS ends at each position; never the first token."""
    drawn = zlib.crc32(repr((generation.prompt, generation.sampling.seed, position)).encode()) % WORDS
    return drawn if position else max(1, drawn)


def text_of(token: int) -> str:
    return "" if token == END else f"w{token} "


@dataclass
class ScriptedEngine:
    """failing: a prompt that holds this token ends as failed. refusing: one that holds this is not taken. stuck: makes no tokens while true.
    steps_left: after so many steps it is stuck."""

    max_running: int = 4
    max_waiting: int = 100
    failing: int = -1
    refusing: int = -1
    stuck: bool = False
    steps_left: int = 1_000_000
    added: list[Generation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.waiting: list[Generation] = []
        self.running: dict[str, tuple[Generation, list[int]]] = {}
        self.ending: list[Finished] = []
        self.made = self.steps = 0

    @property
    def busy(self) -> bool:
        return bool(self.ending) or (not self.stuck and bool(self.waiting or self.running))

    def add(self, generation: Generation) -> None:
        if self.refusing in generation.prompt:
            raise InvalidRequest("it never fits")
        if len(self.waiting) >= self.max_waiting:
            raise Full(f"{self.max_waiting} requests wait already", 700)
        self.added.append(generation)
        self.waiting.append(generation)

    def cancel(self, request_id: str) -> None:
        for generation in [one for one in self.waiting if one.request_id == request_id]:
            self.waiting.remove(generation)
            self.ending.append(self._finished(generation, list(generation.emitted), "cancelled"))
        if request_id in self.running:
            self.ending.append(self._finished(*self.running.pop(request_id), "cancelled"))

    def step(self) -> list[Token | Finished]:
        events: list[Token | Finished] = list(self.ending)
        self.ending.clear()
        if self.stuck:
            return events
        self.steps += 1
        self.stuck = self.steps >= self.steps_left
        while self.waiting and len(self.running) < self.max_running:
            generation = self.waiting.pop(0)
            self.running[generation.request_id] = (generation, list(generation.emitted))
        for key, (generation, tokens) in list(self.running.items()):
            events += self._advance(key, generation, tokens)
        return events

    def _advance(self, key: str, generation: Generation, tokens: list[int]) -> list[Token | Finished]:
        if self.failing in generation.prompt:
            del self.running[key]
            return [self._finished(generation, tokens, "failed")]
        token = token_at(generation, len(tokens))
        events: list[Token | Finished] = [Token(key, len(tokens), token, text_of(token))]
        tokens.append(token)
        self.made += 1
        if token == END or len(tokens) == generation.sampling.max_tokens:
            del self.running[key]
            events.append(self._finished(generation, tokens, "stop" if token == END else "length"))
        return events

    def _finished(self, generation: Generation, tokens: list[int], reason: Reason) -> Finished:
        text = "".join(map(text_of, tokens))
        message = "the model cannot say this" if reason == "failed" else ""
        return Finished(
            generation.request_id, reason, text, len(generation.prompt), len(tokens), ms_per_token=2.0, message=message
        )

    def close(self) -> None:
        return

    def figures(self) -> EngineFigures:
        return EngineFigures(len(self.running), len(self.waiting), 0, 0, 1_000, 0, 0, self.made, 0, self.steps)


class WordTemplate:
    """A token for each character: its code point."""

    def prompt(self, messages: Sequence[Message], max_tokens: int) -> Prompt:
        assert all(message.role in ROLES for message in messages)
        for first in range(len(messages)):
            tokens = self.plain("\n".join(message.content for message in messages[first:]))
            if len(tokens) <= max_tokens:
                return Prompt(tokens, first)
        raise InvalidRequest("the last turn alone has too many tokens")

    def plain(self, text: str) -> tuple[int, ...]:
        if len(text) > 10_000:
            raise InvalidRequest("too many characters")
        return tuple(map(ord, text))

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(map(text_of, tokens))


def scripted_model(engine: ScriptedEngine, context_tokens: int = 512) -> ChatModel:
    return ChatModel(engine, WordTemplate(), context_tokens, WORDS)
