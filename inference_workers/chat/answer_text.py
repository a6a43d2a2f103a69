"""Tokens to text, piece by piece: whole characters only, and nothing that may still become a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"  # what a decoder makes of bytes that are no whole character
MAX_PENDING = 8  # tokens; a character has at most four bytes, so that more are no character


class AnswerText:
    """The text of one answer. decode: token ids to text, control tokens left out."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str]) -> None:
        self._decode = decode
        self._stops = tuple(stops)
        self._tokens: list[int] = []
        self._context = 0  # tokens from here on are decoded: a tokenizer may join a token's text to the token before
        self._read = 0  # tokens before this have given their text
        self._held = ""
        self._parts: list[str] = []
        self.stopped = False

    @property
    def text(self) -> str:
        return "".join(self._parts)

    @property
    def open(self) -> bool:
        """Whether something is held back: `end` would give it."""
        return bool(self._held) or self._read < len(self._tokens)

    def add(self, token: int) -> str:
        """The text that the token adds."""
        self._tokens.append(token)
        return self._given(self._new_text(pending=MAX_PENDING))

    def end(self) -> str:
        """The answer ends: what was held back."""
        if self.stopped:
            return ""
        rest = self._held + self._new_text(pending=0)
        self._held = ""
        self._parts.append(rest)
        return rest

    def _new_text(self, pending: int) -> str:
        before = self._decode(self._tokens[self._context : self._read])
        whole = self._decode(self._tokens[self._context :])
        if whole.endswith(INCOMPLETE) and len(self._tokens) - self._read < pending:
            return ""
        self._context, self._read = self._read, len(self._tokens)
        return whole[len(before) :]

    def _given(self, new: str) -> str:
        """What of the text so far is certain."""
        open_text = self._held + new
        # (end, start) of each: the one that is whole first counts, however the text is cut into tokens
        ends = [(at + len(stop), at) for stop in self._stops if (at := open_text.find(stop)) >= 0]
        if ends:
            self.stopped = True
            given, self._held = open_text[: min(ends)[1]], ""
        else:
            keep = max((_overlap(open_text, stop) for stop in self._stops), default=0)
            given, self._held = open_text[: len(open_text) - keep], open_text[len(open_text) - keep :]
        self._parts.append(given)
        return given


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of text with which stop begins."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
