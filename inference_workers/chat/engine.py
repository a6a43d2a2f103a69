"""What a chat engine takes and gives: generations in, tokens and ends out. No topics, no HTTP, no vendor types.

An engine is driven by one thread: `add` and `cancel` between steps, `step` while `busy`.

    engine.add(Generation("r1", prompt=(1, 2, 3)))
    while engine.busy:
        for event in engine.step():
            ...
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from schemas.errors import InvalidRequest, RetryLater

Reason = Literal["stop", "length", "cancelled", "expired", "failed"]

MAX_STOPS, MAX_STOP_CHARACTERS, MAX_LOGPROBS, MAX_TEMPERATURE, MAX_SCHEMA_CHARACTERS = 16, 256, 20, 2.0, 65_536
MIN_TEMPERATURE = (
    1e-4  # below it differences of logits overflow; what is more probable by 0.1 % is chosen in 9,999 of 10,000 cases even here
)


class Full(RetryLater):
    """The engine's queue is full. retry_after_ms: when room is likely, from the rate of the last steps."""

    code = "full"

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. A temperature below MIN_TEMPERATURE takes the most probable token. top_p: probability mass that may be chosen from.
    stop: texts that end the answer and are no part of it. logprobs: how many alternatives each token names; 0 leaves out log
    probabilities altogether. schema: a JSON schema, as JSON, that the answer obeys; the empty schema {} allows any JSON.

    Raises InvalidRequest, with the field and its limits.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int = 0
    logprobs: int = 0
    schema: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= MAX_TEMPERATURE:
            raise InvalidRequest(f"temperature is {self.temperature}; it must be from 0 to {MAX_TEMPERATURE:g}")
        if not 0 < self.top_p <= 1:
            raise InvalidRequest(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.max_tokens < 1:
            raise InvalidRequest(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if not 0 <= self.logprobs <= MAX_LOGPROBS:
            raise InvalidRequest(f"logprobs is {self.logprobs}; it must be from 0 to {MAX_LOGPROBS}")
        if not -(2**63) <= self.seed < 2**63:
            raise InvalidRequest("seed must fit 64 bits")
        if len(self.stop) > MAX_STOPS:
            raise InvalidRequest(f"stop has {len(self.stop)} texts; at most {MAX_STOPS} are allowed")
        if not all(0 < len(text) <= MAX_STOP_CHARACTERS for text in self.stop):
            raise InvalidRequest(f"each stop text must have from 1 to {MAX_STOP_CHARACTERS} characters")
        if self.schema is not None and len(self.schema) > MAX_SCHEMA_CHARACTERS:
            raise InvalidRequest(f"the schema has {len(self.schema)} characters; at most {MAX_SCHEMA_CHARACTERS} are allowed")


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer to be made. prompt: token ids. emitted: tokens that another worker made already: the answer goes on after them, with
    the random numbers that it would have had there. priority: higher is admitted first. deadline_ms: epoch; None for none.
    """

    request_id: str
    prompt: tuple[int, ...]
    emitted: tuple[int, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    priority: int = 0
    deadline_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer, in order, without gaps. sequence: its position in the answer, from 0; after a resume it goes on at
    len(emitted). text: what it adds to the answer, whole characters only: "" while a character is incomplete or while the end of the
    text may turn out to be a stop text. The texts of all tokens, joined, are the text of `Finished`; the last token holds what was
    held back. logprob: natural logarithm of its probability before temperature and top_p. alternatives: the most probable tokens
    there, with their logprobs. The token that ends the model's turn is a `Token` too, mostly with the text "". made_ms: when its step
    ended, milliseconds since the epoch; 0 until the thread that drives the engine sets it."""

    request_id: str
    sequence: int
    token: int
    text: str
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()
    made_ms: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer, once per generation. text: the whole answer, with what `emitted` says. completion_tokens counts
    `emitted` too, and the token that ends the model's turn. cached_tokens: tokens of the prompt that the prefix cache held.
    message: the cause, where reason is "failed" or "expired"; else "". mean_logprob: of every eighth token that was made here, from the
    first on; NaN if there is none.
    """

    request_id: str
    reason: Reason
    text: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    time_to_first_token_ms: float = 0.0
    ms_per_token: float = 0.0
    message: str = ""
    mean_logprob: float = math.nan


@dataclass(frozen=True, slots=True)
class Refused:
    """A generation was not taken: by `add`, or by a server that computes it before it made a token."""

    request_id: str
    error: Exception


Event = Token | Finished | Refused


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """The state of an engine, and its counts since the start. kv_tokens: positions of the KV cache held by running sequences;
    kv_cached_tokens: held for later prompts alone, given up when room is needed; kv_limit: all positions."""

    running: int
    waiting: int
    kv_tokens: int
    kv_cached_tokens: int
    kv_limit: int
    prompt_tokens: int
    prefix_hit_tokens: int
    tokens: int
    preemptions: int
    steps: int


class Engine(Protocol):
    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        ...

    def add(self, generation: Generation) -> None:
        """Queue a generation. Raises Full when the queue has no room, InvalidRequest when the generation never fits, or when its
        schema cannot be met. Nothing of a refused generation is kept. Does not block."""
        ...

    def cancel(self, request_id: str) -> None:
        """End a generation before the next step, which gives its `Finished`. An id that is not here is no error."""
        ...

    def step(self) -> Sequence[Event]:
        """One step of the whole running batch: at most one token of each sequence. Blocks for the model's time. Returns at once
        where nothing is to do. An error of one sequence ends that one as "failed"."""
        ...

    def figures(self) -> EngineFigures: ...

    def close(self) -> None:
        """End what it holds outside of this process; the last call."""
        ...
