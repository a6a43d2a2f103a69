"""Continuous batching: sequences join and leave between steps.

Method: Yu et al., "Orca", OSDI 2022; structure after nano-vllm. A step is schedule, compute, choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Tokens
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from inference_workers.chat.answer_text import AnswerText
from inference_workers.chat.blocks import Blocks
from inference_workers.chat.constraint import Constraints
from inference_workers.chat.engine import EngineFigures, Finished, Full, Generation, Reason, Token
from inference_workers.chat.llama import StepRows
from inference_workers.chat.scheduler import Scheduler, Share
from inference_workers.chat.sequence import Sequence
from inference_workers.chat.settings import EngineSettings
from inference_workers.chat.token_choice import NOT_FINITE, Asked, Choice, Logits
from schemas.errors import InvalidRequest, RecordError
from streams.clock import Clock

RATE_STEPS = 0.05  # weight of the newest step in the mean time of a step
LOGPROB_EVERY = 8  # tokens: enough for a mean, and an eighth of its cost
FIRST_STEP_S = 0.1  # assumed until a step was measured


class Network(Protocol):
    def logits(self, step: StepRows) -> Logits:
        """Of the wanted rows; valid until the next call."""
        ...


class ContinuousEngine:
    """See `Engine`."""

    def __init__(
        self,
        network: Network,
        settings: EngineSettings,
        clock: Clock,
        *,
        context_tokens: int,
        ends: frozenset[int],
        decode: Callable[[Tokens[int]], str],
        constraints: Callable[[], Constraints],
    ) -> None:
        """ends: tokens that end an answer. constraints: called once, when the first schema comes."""
        blocks = settings.kv_tokens // settings.block_tokens
        self._network, self._settings, self._clock = network, settings, clock
        self._blocks = Blocks(blocks, settings.prefix_cache)
        self._scheduler = Scheduler(settings, self._blocks)
        self._limit = min(context_tokens, blocks * settings.block_tokens)
        self._ends, self._decode = ends, decode
        self._make_constraints = constraints
        self._constraints: Constraints | None = None
        self._sequences: dict[str, Sequence] = {}
        self._ended: list[tuple[Sequence, Reason, str]] = []
        self._arrivals = self._tokens = self._steps = 0
        self._step_s = FIRST_STEP_S

    @property
    def busy(self) -> bool:
        return bool(self._sequences)

    def add(self, generation: Generation) -> None:
        self._refuse(generation)
        sequence = self._sequence(generation)
        self._sequences[generation.request_id] = sequence
        self._arrivals += 1
        ends_with = generation.emitted[-1:]
        if sequence.text.stopped or (ends_with and ends_with[0] in self._ends):
            self._end(sequence, "stop")
        elif sequence.answered >= generation.sampling.max_tokens:
            self._end(sequence, "length")
        else:
            self._scheduler.queue(sequence)

    def cancel(self, request_id: str) -> None:
        sequence = self._sequences.get(request_id)
        if sequence is not None and all(sequence is not ended for ended, _, _ in self._ended):
            self._scheduler.remove(sequence)
            self._end(sequence, "cancelled")

    def step(self) -> list[Token | Finished]:
        self._expire()
        started_s = self._clock.monotonic_s()
        shares = self._scheduler.shares()
        events: list[Token | Finished] = []
        if shares:
            events += self._compute(shares)
            self._steps += 1
            self._step_s += RATE_STEPS * (self._clock.monotonic_s() - started_s - self._step_s)
        for sequence, reason, message in self._ended:
            del self._sequences[sequence.generation.request_id]
            events.append(sequence.finished(reason, message))
        self._ended.clear()
        return events

    def close(self) -> None:
        """It holds nothing outside of this process."""

    def figures(self) -> EngineFigures:
        scheduler, size = self._scheduler, self._settings.block_tokens
        return EngineFigures(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            kv_tokens=self._blocks.held * size,
            kv_cached_tokens=self._blocks.cached * size,
            kv_limit=self._blocks.count * size,
            prompt_tokens=scheduler.prompt_tokens,
            prefix_hit_tokens=scheduler.prefix_hit_tokens,
            tokens=self._tokens,
            preemptions=scheduler.preemptions,
            steps=self._steps,
        )

    def _refuse(self, generation: Generation) -> None:
        if generation.request_id in self._sequences:
            raise InvalidRequest(f"request {generation.request_id} is being answered already")
        if not generation.prompt:
            raise InvalidRequest("the prompt has no tokens")
        tokens = len(generation.prompt) + generation.sampling.max_tokens
        if tokens > self._limit:
            raise InvalidRequest(
                f"prompt and answer would have {tokens} tokens ({len(generation.prompt)} and max_tokens "
                f"{generation.sampling.max_tokens}); at most {self._limit} fit"
            )
        if len(self._scheduler.waiting) >= self._settings.max_waiting:
            raise Full(f"{len(self._scheduler.waiting)} requests wait already", self._retry_after_ms())

    def _retry_after_ms(self) -> int:
        """When the shortest running answer will have ended, at the rate of the last steps, if all take their whole length."""
        left = [one.generation.sampling.max_tokens - one.answered for one in self._scheduler.running]
        return max(100, round(min(left, default=1) * self._step_s * 1000))

    def _sequence(self, generation: Generation) -> Sequence:
        text = AnswerText(self._decode, generation.sampling.stop)
        constraint = None
        if generation.sampling.schema is not None:
            self._constraints = self._constraints or self._make_constraints()
            constraint = self._constraints.of(generation.sampling.schema)
        for token in generation.emitted:
            text.add(token)
            if constraint is not None:
                constraint.add(token)
        if generation.emitted and (
            generation.emitted[-1] in self._ends or len(generation.emitted) >= generation.sampling.max_tokens
        ):
            text.end()
        return Sequence(
            generation=generation,
            arrival=self._arrivals,
            added_s=self._clock.monotonic_s(),
            text=text,
            constraint=constraint,
            tokens=[*generation.prompt, *generation.emitted],
        )

    def _expire(self) -> None:
        now_ms = self._clock.now_ms()
        for sequence in [*self._scheduler.waiting, *self._scheduler.running]:
            deadline_ms = sequence.generation.deadline_ms
            if deadline_ms is not None and deadline_ms <= now_ms:
                self._scheduler.remove(sequence)
                self._end(sequence, "expired", f"the deadline passed after {sequence.answered} tokens")

    def _end(self, sequence: Sequence, reason: Reason, message: str = "") -> None:
        if reason not in ("stop", "length"):
            sequence.text.end()
        self._ended.append((sequence, reason, message))

    def _compute(self, shares: list[Share]) -> list[Token | Finished]:
        choosing = [share for share in shares if share.count == share.sequence.pending]
        logits = self._network.logits(_rows(shares))
        for share in shares:
            self._scheduler.computed(share)
        asked: dict[int, Asked] = {}
        for row, share in enumerate(choosing):
            with self._own_failure(share.sequence):
                asked[row] = self._asked(share.sequence)
        choices = logits.choices(asked)
        now_s = self._clock.monotonic_s()
        events: list[Token | Finished] = []
        for row, share in enumerate(choosing):
            if row in choices:
                with self._own_failure(share.sequence):
                    events.append(self._chosen(share.sequence, asked[row], choices[row], now_s))
        return events

    @contextmanager
    def _own_failure(self, sequence: Sequence) -> Iterator[None]:
        """An error ends this sequence alone, whatever it is."""
        try:
            yield
        except Exception as error:
            if all(sequence is not ended for ended, _, _ in self._ended):
                self._scheduler.remove(sequence)
                self._end(sequence, "failed", str(error) if isinstance(error, RecordError) else repr(error))

    def _asked(self, sequence: Sequence) -> Asked:
        """Raises InvalidRequest if the answer cannot go on as its schema demands."""
        allowed = sequence.constraint.allowed() if sequence.constraint is not None else None
        return Asked(sequence.generation.sampling, sequence.answered, allowed, sequence.answered % LOGPROB_EVERY == 0)

    def _chosen(self, sequence: Sequence, asked: Asked, choice: Choice, now_s: float) -> Token:
        """Raises InvalidRequest if the model gave no numbers to choose by, or the answer cannot go on as its schema demands."""
        sampling = asked.sampling
        if choice is NOT_FINITE:
            raise InvalidRequest("the model gave numbers that are not finite for this prompt")
        ends = choice.token in self._ends
        if asked.logprob and choice.logprob is not None:
            sequence.logprobs.append(choice.logprob)
        if sequence.constraint is not None:
            sequence.constraint.add(choice.token)
        sequence.tokens.append(choice.token)
        sequence.update_keys(self._settings.block_tokens)
        sequence.first_s = sequence.first_s if sequence.first_s is not None else now_s
        sequence.last_s = now_s
        self._tokens += 1
        text = sequence.text.add(choice.token)
        if sequence.text.stopped or ends or sequence.answered >= sampling.max_tokens:
            text += sequence.text.end()
            self._scheduler.remove(sequence)
            self._end(sequence, "stop" if sequence.text.stopped or ends else "length")
        logprob = choice.logprob if sampling.logprobs else None
        return Token(sequence.generation.request_id, asked.position, choice.token, text, logprob, choice.alternatives)


def _rows(shares: list[Share]) -> StepRows:
    """The tokens that the step computes, and the last row of each sequence whose tokens are then all computed."""
    counts = [share.count for share in shares]
    owners = np.repeat(np.arange(len(shares)), counts)
    positions = np.concatenate([np.arange(share.sequence.computed, share.sequence.computed + share.count) for share in shares])
    tables = np.zeros((len(shares), max(len(share.sequence.blocks) for share in shares)), np.int32)
    tokens: list[int] = []
    for number, share in enumerate(shares):
        sequence = share.sequence
        tables[number, : len(sequence.blocks)] = sequence.blocks
        tokens += sequence.tokens[sequence.computed : sequence.computed + share.count]
    last = np.cumsum(counts) - 1
    wanted = [at for at, share in zip(last, shares, strict=True) if share.count == share.sequence.pending]
    return StepRows(
        tokens=np.array(tokens, np.int64),
        rows=np.stack([owners, positions], 1).astype(np.int32),
        tables=tables,
        wanted=np.array(wanted, np.int64),
    )
