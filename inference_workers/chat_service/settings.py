"""Settings of the chat worker, beside those of its engine and of every worker."""

from __future__ import annotations

from dataclasses import dataclass

from streams.process.settings import setting


@dataclass(frozen=True)
class ChatSettings:
    chat_model: str = setting("package:smollm2-135m-instruct", "address of the model that answers chats")
    max_answer_tokens: int = setting(2_048, "most tokens of an answer that a chat request may ask for", 1, 1_000_000)
    chat_moderation: bool = setting(False, "1 or 0: whether prompts and answers of chat pass the moderation task")
    judge_every_tokens: int = setting(32, "how often an answer that is being made passes moderation, tokens", 1, 1_000_000)
    history_hours: float = setting(
        24.0, "how far back a worker reads the turns of conversations when it starts, hours", 0.01, 168
    )
    history_characters: int = setting(
        65_536, "how much of the earlier turns a continued conversation is given, characters", 0, 1_000_000
    )
    span_records: int = setting(
        512,
        "how far ahead of a partition's oldest unfinished chat others are taken; so many are read again after a crash",
        1,
        1_000_000,
    )
