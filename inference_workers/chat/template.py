"""A checkpoint's chat template and tokenizer. Text of messages never becomes a control token: control tokens are read in the template's own
parts only, and everything between two of them is tokenised as plain text.

The only module that imports jinja2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from inference_workers.chat.conversation import ROLES, Message, Prompt
from inference_workers.models.folder import read_fields
from schemas.errors import InvalidRequest, ModelRefused

TOKENIZER, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
PLACE = re.compile("\\ue000([0-9]+)\\ue001")  # where a message's text comes in the rendered template: private characters
SPECIALS = ("bos_token", "eos_token", "unk_token", "pad_token")


class JinjaChatTemplate:
    """See `ChatTemplate`."""

    def __init__(self, folder: Path, max_characters: int) -> None:
        """Raises ModelRefused if the folder has no tokenizer or no chat template."""
        self.tokenizer = _tokenizer(folder / TOKENIZER)
        config = read_fields(folder / CONFIG)
        source = (folder / TEMPLATE).read_text() if (folder / TEMPLATE).is_file() else config.get("chat_template")
        if not isinstance(source, str):
            raise ModelRefused(f"{folder} has no chat template: its model was not trained to chat")
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse
        self._template = environment.from_string(source)
        self._names = {name: _content(config.get(name)) for name in SPECIALS}
        special = {token.content: number for number, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        self._special = special
        self._split = (
            re.compile("(" + "|".join(map(re.escape, sorted(special, key=len, reverse=True))) + ")") if special else None
        )
        self._max_characters = max_characters
        self.tokenizer.encode_special_tokens = True

    @property
    def end(self) -> int | None:
        """The token that ends an answer, by the tokenizer's config."""
        return self._special.get(self._names["eos_token"] or "")

    def prompt(self, messages: Sequence[Message], max_tokens: int) -> Prompt:
        self._check(messages)
        system = next((n for n, message in enumerate(messages) if message.role != "system"), len(messages))
        starts = [n for n, message in enumerate(messages) if n >= system and message.role == "user"] or [system]
        fewest, most = 0, len(starts) - 1  # how many of the oldest turns are dropped
        known: dict[str, list[int]] = {}  # each turn is tokenised once, however often the rest is cut shorter
        tokens = self._tokens(messages, known)
        if len(tokens) <= max_tokens:
            return Prompt(tokens, 0)
        while fewest < most:
            middle = (fewest + most) // 2
            if len(self._tokens([*messages[:system], *messages[starts[middle] :]], known)) <= max_tokens:
                most = middle
            else:
                fewest = middle + 1
        tokens = self._tokens([*messages[:system], *messages[starts[fewest] :]], known)
        if len(tokens) > max_tokens:
            raise InvalidRequest(f"the last turn and the system message have {len(tokens)} tokens; at most {max_tokens} fit")
        return Prompt(tokens, starts[fewest] - system)

    def plain(self, text: str) -> tuple[int, ...]:
        self._check_characters(len(text))
        return tuple(self.tokenizer.encode(text).ids)

    def text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _check(self, messages: Sequence[Message]) -> None:
        if not messages:
            raise InvalidRequest("there are no messages")
        for number, message in enumerate(messages):
            if message.role not in ROLES:
                raise InvalidRequest(f"message {number} has the role {message.role[:40]!r}; it must be one of {', '.join(ROLES)}")
        if all(message.role == "system" for message in messages):
            raise InvalidRequest("there is no message of a user")
        if not any(message.content.strip() for message in messages if message.role != "system"):
            raise InvalidRequest("all messages are empty")
        self._check_characters(sum(len(message.content) for message in messages))

    def _check_characters(self, characters: int) -> None:
        if characters > self._max_characters:
            raise InvalidRequest(f"there are {characters} characters; at most {self._max_characters} are read")

    def _tokens(self, messages: Sequence[Message], known: dict[str, list[int]]) -> tuple[int, ...]:
        places = [{"role": message.role, "content": f"\ue000{number}\ue001"} for number, message in enumerate(messages)]
        try:
            rendered = self._template.render(messages=places, add_generation_prompt=True, **self._names)
        except TemplateError as error:
            raise InvalidRequest(f"the model's chat template refuses the messages: {error}") from error
        tokens: list[int] = []
        text = ""
        for number, part in enumerate(PLACE.split(rendered)):
            if number % 2:
                text += messages[int(part)].content
                continue
            for piece in self._split.split(part) if self._split else [part]:
                if piece in self._special:
                    tokens += [*self._encoded(text, known), self._special[piece]]
                    text = ""
                else:
                    text += piece
        return (*tokens, *self._encoded(text, known))

    def _encoded(self, text: str, known: dict[str, list[int]]) -> list[int]:
        """known: texts between control tokens that were tokenised already."""
        if text not in known:
            known[text] = list(self.tokenizer.encode(text, add_special_tokens=False).ids) if text else []
        return known[text]


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _content(token: Any) -> str | None:
    return token.get("content") if isinstance(token, Mapping) else token


def _tokenizer(file: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower kind
        raise ModelRefused(f"{file} cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
