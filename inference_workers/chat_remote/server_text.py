"""Between token ids and the text that servers take or give, by the tokenizer of the model folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from inference_workers.chat.answer_text import INCOMPLETE
from inference_workers.chat.template import JinjaChatTemplate
from schemas.errors import InvalidRequest, ModelRefused

PROBE = " two words, 3 {'a': [1]}\n\u00e9\u4e2d"


class ServerText:
    """For one thread."""

    def __init__(self, file: Path, template: JinjaChatTemplate) -> None:
        """file: `tokenizer.json`, which the template was read from. Raises ModelRefused if its tokens do not keep a text as it is."""
        self._plain = template.tokenizer
        self._as_server = Tokenizer.from_file(str(file))  # reads control tokens in text, as servers do
        self._special = {number for number, token in self._plain.get_added_tokens_decoder().items() if token.special}
        if template.text(self.tokens(PROBE)) != PROBE:
            raise ModelRefused(f"{file} changes spaces or characters of a text: answers of a server cannot be told in its tokens")

    def tokens(self, text: str) -> tuple[int, ...]:
        """The tokens of a piece of an answer. Text that looks like a control token is no control token."""
        return tuple(self._plain.encode(text, add_special_tokens=False).ids)

    def prompt(self, tokens: Sequence[int]) -> str:
        """A text that the server reads with the control tokens of `tokens`, and no others. Raises InvalidRequest if there is none."""
        control = [token for token in tokens if token in self._special]
        for first in (0, 1):  # a server may add the first one by itself
            text = str(self._plain.decode(list(tokens[first:]), skip_special_tokens=False))
            if [token for token in self._as_server.encode(text).ids if token in self._special] == control:
                if text.endswith(INCOMPLETE):
                    raise InvalidRequest("the answer was left in the middle of a character, and the server takes text: ask again")
                return text
        raise InvalidRequest("the text has what the server would read as a control token of its model")
