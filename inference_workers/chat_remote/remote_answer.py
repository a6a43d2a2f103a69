"""An answer that a server makes, as far as it came. Pure but for the time that is passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from inference_workers.chat.answer_progress import AnswerProgress
from inference_workers.chat.engine import Finished, Reason, Token
from inference_workers.chat_remote.dialects import Junk, Part, Weight
from inference_workers.chat_remote.server_streams import Stream

LOGPROB_EVERY = 8  # as `Finished` says
MOST_EMPTY = 10_000  # events in a row that add nothing


@dataclass(eq=False)
class RemoteAnswer(AnswerProgress):
    """tokens: of the answer, from the first on. pending: the last token where its text may still grow. stream: the one that makes the
    answer now. tries: streams since the last token that did not bring one. not_before_s: when the server may be asked again."""

    pending: Token | None = None
    stream: Stream | None = None
    has_ids: bool = False
    tries: int = 0
    empty: int = 0
    not_before_s: float = 0.0

    def began(self, stream: Stream) -> None:
        self.stream, self.has_ids, self.empty = stream, False, 0

    def added(
        self, part: Part, tokens_of: Callable[[str], tuple[int, ...]], decode: Callable[[Sequence[int]], str]
    ) -> Sequence[int]:
        """The tokens that a part of the stream brings. Raises Junk."""
        tokens: Sequence[int]
        if part.tokens is not None:
            if not self.has_ids and part.tokens:
                ours = decode(part.tokens)
                if part.text.strip() and "\ufffd" not in part.text + ours and part.text.strip() != ours.strip():
                    raise Junk(f"the server's model has another tokenizer than the model folder: {part.text!r:.40}, {ours!r:.40}")
                self.has_ids = True
            tokens = part.tokens
        else:
            tokens = () if self.has_ids else tokens_of(part.text)
        self.empty = 0 if tokens else self.empty + 1
        if self.empty > MOST_EMPTY:
            raise Junk(f"the server sent {MOST_EMPTY} events without a token")
        return tokens

    def add(self, token: int, weight: Weight | None, is_last: bool, now_s: float) -> tuple[list[Token], bool]:
        """What can be read now, and whether the answer is whole. is_last: whether nothing comes after the token."""
        if weight is not None and len(self.tokens) % LOGPROB_EVERY == 0:
            self.logprobs.append(weight.logprob)
        shown = self.shown()
        self.first_s, self.last_s, self.tries = self.first_s if self.first_s is not None else now_s, now_s, 0
        text = self.text.add(token)
        wants = self.generation.sampling.logprobs > 0 and weight is not None
        logprob, alternatives = (weight.logprob, weight.alternatives) if wants and weight is not None else (None, ())
        made = Token(self.generation.request_id, len(self.tokens), token, text, logprob, alternatives)
        self.tokens.append(token)
        if is_last or self.text.stopped or len(self.tokens) >= self.generation.sampling.max_tokens:
            return [*shown, replace(made, text=text + self.text.end())], True
        if self.text.open:
            self.pending = made
            return shown, False
        return [*shown, made], False

    def shown(self, is_last: bool = False) -> list[Token]:
        """The token that was held back, if one was. is_last: it is the last of the answer, and takes what is left of the text."""
        pending, self.pending = self.pending, None
        if pending is None:
            return []
        return [replace(pending, text=pending.text + self.text.end()) if is_last else pending]

    def finished(self, reason: Reason, message: str = "") -> Finished:
        return self.ended(reason, message, len(self.tokens), min(self.cached, len(self.generation.prompt)))
