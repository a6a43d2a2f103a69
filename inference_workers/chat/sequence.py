"""A generation in the engine: its tokens, the blocks that hold them, and its answer so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from inference_workers.chat.answer_progress import AnswerProgress
from inference_workers.chat.blocks import ROOT, Key, key_of
from inference_workers.chat.engine import Finished, Reason


@dataclass(eq=False)
class Sequence(AnswerProgress):
    """tokens: prompt and answer. computed: how many of them have keys and values in blocks. keys: of the full blocks of tokens."""

    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Tokens of the answer so far."""
        return len(self.tokens) - len(self.generation.prompt)

    @property
    def pending(self) -> int:
        """Tokens whose keys and values are still to be computed."""
        return len(self.tokens) - self.computed

    def update_keys(self, block_tokens: int) -> None:
        while (len(self.keys) + 1) * block_tokens <= len(self.tokens):
            start = len(self.keys) * block_tokens
            self.keys.append(key_of(self.keys[-1] if self.keys else ROOT, self.tokens[start : start + block_tokens]))

    def finished(self, reason: Reason, message: str = "") -> Finished:
        return self.ended(reason, message, self.answered, self.cached)
