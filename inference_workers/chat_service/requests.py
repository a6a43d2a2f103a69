"""Decoded chat requests as generations of the engine, or refused with a reason that names the field. Pure."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference_workers.chat.conversation import ROLES, ChatTemplate, Message
from inference_workers.chat.engine import Generation, Sampling
from schemas.errors import InvalidRequest

MAX_MESSAGES = 4_096
MOST_ID_CHARACTERS, MOST_NEW_CHARACTERS = 128, 65_536
ALLOWED_CONTROLS = "\n\r\t"


@dataclass(frozen=True, slots=True)
class ChatInput:
    """What a request asks for. truncated_messages: how many of the oldest were left out. written: all texts of the prompt, as
    moderation reads them. asked: the messages of a request that continues a conversation. history_messages: how many came before."""

    prompt: tuple[int, ...]
    sampling: Sampling
    truncated_messages: int
    conversation_id: str | None
    written: str
    asked: tuple[Message, ...] = ()
    history_messages: int = 0

    def generation(self, key: str, emitted: tuple[int, ...], priority: int, deadline_ms: int) -> Generation:
        """key: the engine's name for it. deadline_ms: 0 for none."""
        return Generation(key, self.prompt, emitted, self.sampling, priority, deadline_ms or None)


def parsed(
    fields: Mapping[str, Any],
    request_id: str,
    template: ChatTemplate,
    context_tokens: int,
    max_tokens: int,
    earlier: Callable[[str], Sequence[Message]],
) -> ChatInput:
    """max_tokens: of an answer, at most. earlier: the turns of a conversation before this request. Raises InvalidRequest."""
    conversation_id = fields["conversation_id"]
    if conversation_id is not None and not 0 < len(conversation_id) <= MOST_ID_CHARACTERS:
        raise InvalidRequest(
            f"conversation_id has {len(conversation_id)} characters; it must have from 1 to {MOST_ID_CHARACTERS}"
        )
    asked: tuple[Message, ...] = ()
    history: Sequence[Message] = ()
    sampling = _sampling(fields, request_id, max_tokens)
    room = context_tokens - sampling.max_tokens
    if room < 1:
        raise InvalidRequest(
            f"max_tokens is {sampling.max_tokens}; the model has {context_tokens} for prompt and answer together"
        )
    if fields["prompt"] is not None:
        if fields["continues"]:
            raise InvalidRequest("continues is for messages; a prompt continues no conversation")
        if fields["messages"]:
            raise InvalidRequest("messages and prompt are both given: it must be one of them")
        _checked("prompt", fields["prompt"])
        prompt, dropped, written = template.plain(fields["prompt"]), 0, fields["prompt"]
        if not prompt:
            raise InvalidRequest("prompt is empty")
        if len(prompt) > room:
            raise InvalidRequest(f"prompt has {len(prompt)} tokens; {room} fit beside max_tokens {sampling.max_tokens}")
    else:
        messages = _messages(fields["messages"])
        if fields["continues"]:
            asked, history = _asked(messages, conversation_id), earlier(conversation_id)
            messages = [*history, *messages]
        made = template.prompt(messages, room)
        prompt, dropped = made.tokens, made.dropped_messages
        written = "\n\n".join(message.content for message in messages)
    return ChatInput(prompt, sampling, dropped, conversation_id, written, asked, len(history))


def _asked(messages: Sequence[Message], conversation_id: str | None) -> tuple[Message, ...]:
    """What a request adds to its conversation. Raises InvalidRequest."""
    if conversation_id is None:
        raise InvalidRequest("continues is set without a conversation_id")
    characters = sum(len(message.content) for message in messages)
    if characters > MOST_NEW_CHARACTERS:
        raise InvalidRequest(f"messages have {characters} characters; {MOST_NEW_CHARACTERS} are kept of a request that continues")
    return tuple(messages)


def _sampling(fields: Mapping[str, Any], request_id: str, max_tokens: int) -> Sampling:
    if fields["max_tokens"] > max_tokens:
        raise InvalidRequest(f"max_tokens is {fields['max_tokens']}; at most {max_tokens} are made here")
    schema = fields["response_schema"]
    if schema is not None:
        try:
            json.loads(schema)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"response_schema is not JSON: {error}") from error
    seed = fields["seed"]
    return Sampling(
        temperature=fields["temperature"],
        top_p=fields["top_p"],
        max_tokens=fields["max_tokens"],
        stop=tuple(fields["stop"]),
        seed=seed_of(request_id) if seed is None else seed,
        logprobs=fields["logprobs"],
        schema=schema,
    )


def seed_of(request_id: str) -> int:
    """The seed of a request that names none: the same for every worker that takes the request over."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], "big") >> 1


def _messages(given: list[dict[str, Any]]) -> list[Message]:
    if not given:
        raise InvalidRequest("messages is empty: it must hold the conversation, with the question last")
    if len(given) > MAX_MESSAGES:
        raise InvalidRequest(f"messages has {len(given)} entries; at most {MAX_MESSAGES} are taken")
    for i, message in enumerate(given):
        if message["role"] not in ROLES:
            raise InvalidRequest(f"messages[{i}].role is {message['role']!r:.60}; it must be one of {', '.join(ROLES)}")
        _checked(f"messages[{i}].content", message["content"])
    return [Message(message["role"], message["content"]) for message in given]


def _checked(name: str, text: str) -> None:
    """Control characters move cursors and end strings in the programs that show or log a conversation."""
    if text.isprintable():
        return
    for character in set(text):
        if unicodedata.category(character) == "Cc" and character not in ALLOWED_CONTROLS:
            raise InvalidRequest(f"{name} has the control character U+{ord(character):04X}; only line ends and tabs are taken")
