"""An answer under way, whichever engine computes it: what it needs, and the times that its end tells."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from inference_workers.chat.answer_text import AnswerText
from inference_workers.chat.constraint import Constraint
from inference_workers.chat.engine import Finished, Generation, Reason


@dataclass(eq=False)
class AnswerProgress:
    """cached: tokens of the prompt that were computed before. first_s, last_s: when its tokens came. logprobs: of some of the tokens,
    see `Finished`."""

    generation: Generation
    arrival: int
    added_s: float
    text: AnswerText
    constraint: Constraint | None
    tokens: list[int]
    cached: int = 0
    first_s: float | None = None
    last_s: float = 0.0
    logprobs: list[float] = field(default_factory=list)

    @property
    def order(self) -> tuple[int, int]:
        """Lower goes first: higher priority, then earlier arrival."""
        return -self.generation.priority, self.arrival

    def ended(self, reason: Reason, message: str, answered: int, cached: int) -> Finished:
        """answered: tokens of the answer, with those that came with the request."""
        made = answered - len(self.generation.emitted)
        between_s = self.last_s - self.first_s if self.first_s is not None else 0.0
        return Finished(
            request_id=self.generation.request_id,
            reason=reason,
            text=self.text.text,
            prompt_tokens=len(self.generation.prompt),
            completion_tokens=answered,
            cached_tokens=cached,
            time_to_first_token_ms=(self.first_s - self.added_s) * 1000 if self.first_s is not None else 0.0,
            ms_per_token=between_s * 1000 / (made - 1) if made > 1 else 0.0,
            message=message,
            mean_logprob=sum(self.logprobs) / len(self.logprobs) if self.logprobs else math.nan,
        )
