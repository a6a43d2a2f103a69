"""A generation in the engine: its tokens, the blocks that hold them, and its answer so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from inference_workers.chat.answer_text import AnswerText
from inference_workers.chat.blocks import ROOT, Key, key_of
from inference_workers.chat.constraint import Constraint
from inference_workers.chat.engine import Finished, Generation, Reason


@dataclass(eq=False)
class Sequence:
    """tokens: prompt and answer. computed: how many of them have keys and values in blocks. keys: of the full blocks of tokens.
    resumed: how many tokens of the answer came with the request. logprobs: of some of the tokens, see `Finished`."""

    generation: Generation
    arrival: int
    added_s: float
    answer: AnswerText
    constraint: Constraint | None
    tokens: list[int]
    resumed: int = 0
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    cached: int = 0
    first_s: float | None = None
    last_s: float = 0.0
    logprobs: list[float] = field(default_factory=list)

    @property
    def order(self) -> tuple[int, int]:
        """Lower goes first: higher priority, then earlier arrival."""
        return -self.generation.priority, self.arrival

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
        made = self.answered - self.resumed
        between_s = self.last_s - self.first_s if self.first_s is not None else 0.0
        return Finished(
            request_id=self.generation.request_id,
            reason=reason,
            text=self.answer.text,
            prompt_tokens=len(self.generation.prompt),
            completion_tokens=self.answered,
            cached_tokens=self.cached,
            time_to_first_token_ms=(self.first_s - self.added_s) * 1000 if self.first_s is not None else 0.0,
            ms_per_token=between_s * 1000 / (made - 1) if made > 1 else 0.0,
            message=message,
            mean_logprob=sum(self.logprobs) / len(self.logprobs) if self.logprobs else math.nan,
        )
