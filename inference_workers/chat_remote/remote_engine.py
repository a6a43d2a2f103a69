"""An engine whose answers an OpenAI-compatible server computes: streams in, tokens and ends out. Implements `Engine`.

A server that does not answer holds answers back until it does, or until their deadline. A stream that breaks is asked for again
from its last token. What the server says of one request ends that one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from inference_workers.chat.answer_text import AnswerText
from inference_workers.chat.constraint import Constraints
from inference_workers.chat.engine import EngineFigures, Event, Full, Generation, Reason, Refused
from inference_workers.chat.settings import EngineSettings
from inference_workers.chat_remote import dialects
from inference_workers.chat_remote.dialects import Broken, Junk, Part
from inference_workers.chat_remote.remote_answer import RemoteAnswer
from inference_workers.chat_remote.server_streams import ServerStreams
from inference_workers.chat_remote.server_text import ServerText
from inference_workers.chat_remote.settings import ServerSettings
from schemas.errors import DependencyUnavailable, InvalidRequest, RecordError
from streams.clock import Clock

WAIT_S = 0.01  # of a step for an event; what is added or cancelled meanwhile waits as long
MOST_TRIES = 5  # in a row without a token, on connections that the server took
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
UNFINISHED = ("abort", "error")  # finish reasons of a server that gave up; others of ours are stop and length


class RemoteEngine:
    """limit: most tokens of prompt and answer together. ends: tokens that end an answer. trouble: why the server cannot be asked now,
    as a sentence; empty if it can."""

    def __init__(
        self,
        streams: ServerStreams,
        server: ServerSettings,
        settings: EngineSettings,
        clock: Clock,
        limit: int,
        vocabulary: int,
        ends: frozenset[int],
        text: ServerText,
        decode: Callable[[Sequence[int]], str],
        constraints: Callable[[], Constraints],
    ) -> None:
        self._streams, self._settings, self._clock = streams, settings, clock
        self._kind, self._model = server.chat_server_kind, server.chat_server_model
        self._limit, self._vocabulary, self._ends, self._text, self._decode = limit, vocabulary, ends, text, decode
        self._make_constraints = constraints
        self._constraints: Constraints | None = None
        self._answers: dict[str, RemoteAnswer] = {}
        self._events: list[Event] = []
        self._pause_s, self._not_before_s = FIRST_PAUSE_S, 0.0
        self._arrivals = self._steps = self._tokens = self._prompt_tokens = self._cached_tokens = 0
        self.trouble = ""

    @property
    def busy(self) -> bool:
        return bool(self._answers or self._events)

    def add(self, generation: Generation) -> None:
        self._refuse(generation)
        sampling, emitted = generation.sampling, generation.emitted
        constraint = None
        if sampling.schema is not None:
            self._constraints = self._constraints or self._make_constraints()
            constraint = self._constraints.of(sampling.schema)
        text = AnswerText(self._decode, sampling.stop)
        for token in emitted:
            text.add(token)
        now_s = self._clock.monotonic_s()
        answer = RemoteAnswer(generation, self._arrivals, now_s, text, constraint, list(emitted))
        self._arrivals += 1
        self._answers[generation.request_id] = answer
        if text.stopped or (emitted[-1:] and emitted[-1] in self._ends):
            self._end(answer, "stop")
        elif len(emitted) >= sampling.max_tokens:
            self._end(answer, "length")

    def cancel(self, request_id: str) -> None:
        if (answer := self._answers.get(request_id)) is not None:
            self._end(answer, "cancelled")

    def step(self) -> Sequence[Event]:
        self._steps += 1
        self._expire()
        self._start()
        by_stream = {answer.stream: answer for answer in self._answers.values() if answer.stream is not None}
        for stream, item in self._streams.events(0.0 if self._events else WAIT_S):
            answer = by_stream.get(stream)
            if answer is None or answer.stream is not stream:
                continue  # it ended meanwhile
            try:
                if isinstance(item, str):
                    self._take(answer, dialects.part(item))
                else:
                    raise item or Broken("the server closed the stream in the middle of the answer")
            except Exception as error:  # whatever it is, it is this answer's
                self._broken(answer, error)
        events, self._events = self._events, []
        return events

    def figures(self) -> EngineFigures:
        running = sum(answer.stream is not None for answer in self._answers.values())
        waiting = len(self._answers) - running
        prompts, cached = self._prompt_tokens, self._cached_tokens
        return EngineFigures(running, waiting, 0, 0, 0, prompts, cached, self._tokens, 0, self._steps)

    def close(self) -> None:
        self._streams.close()

    # --- what comes in ----------------------------------------------------------------------------------------------

    def _refuse(self, generation: Generation) -> None:
        sampling = generation.sampling
        tokens = len(generation.prompt) + sampling.max_tokens
        if generation.request_id in self._answers:
            raise InvalidRequest(f"request {generation.request_id} is being answered already")
        if tokens > self._limit:
            raise InvalidRequest(f"prompt and answer would have {tokens} tokens; the server takes {self._limit}")
        if sampling.logprobs and self._kind not in dialects.LOGPROBS:
            raise InvalidRequest(f"logprobs are asked for, and a server of the kind {self._kind.value} does not tell them")
        if sampling.schema is not None and self._kind not in dialects.SCHEMAS:
            raise InvalidRequest(f"response_schema is given, and a server of the kind {self._kind.value} does not keep to one")
        waiting = sum(answer.stream is None for answer in self._answers.values())
        if waiting >= self._settings.max_waiting:
            raise Full(
                f"{waiting} requests wait already{': ' + self.trouble if self.trouble else ''}", round(self._pause_s * 1000)
            )

    def _start(self) -> None:
        """Ask for as many answers as may be made at once."""
        now_s = self._clock.monotonic_s()
        if now_s < self._not_before_s:
            return
        room = self._settings.max_running - sum(answer.stream is not None for answer in self._answers.values())
        waiting = [one for one in self._answers.values() if one.stream is None and one.not_before_s <= now_s]
        for answer in sorted(waiting, key=lambda one: one.order)[: max(0, room)]:
            try:
                self._ask(answer)
            except RecordError as error:
                self._broken(answer, error)

    def _ask(self, answer: RemoteAnswer) -> None:
        if answer.tokens and answer.constraint is not None:
            raise InvalidRequest("a server cannot go on with an answer that keeps to a schema: ask again")
        tokens = [*answer.generation.prompt, *answer.tokens]
        prompt = self._text.prompt(tokens) if self._kind in dialects.TEXT_PROMPTS else tokens
        asked = dialects.body(self._kind, self._model, answer.generation, answer.tokens, prompt, sorted(self._ends))
        answer.began(self._streams.open(asked))

    def _expire(self) -> None:
        now_ms = self._clock.now_ms()
        for answer in list(self._answers.values()):
            deadline_ms = answer.generation.deadline_ms
            if deadline_ms is not None and deadline_ms <= now_ms:
                why = f": {self.trouble}" if self.trouble and not answer.tokens else ""
                self._end(answer, "expired", f"the deadline passed after {len(answer.tokens)} tokens{why}")

    # --- what the server says ---------------------------------------------------------------------------------------

    def _take(self, answer: RemoteAnswer, part: Part) -> None:
        if self.trouble:
            structlog.get_logger().info("the chat server answers again")
        self._pause_s, self.trouble = FIRST_PAUSE_S, ""
        answer.cached = part.cached_tokens if part.cached_tokens is not None else answer.cached
        tokens = answer.added(part, self._text.tokens, self._decode)
        weights = {
            i: weight for i, weight in enumerate(part.weights) if len(part.weights) == len(tokens) and weight.token == tokens[i]
        }
        now_s = self._clock.monotonic_s()
        for i, token in enumerate(tokens):
            if self._take_token(answer, token, weights.get(i), now_s):
                return
        if part.reason == "stop":
            self._take_token(answer, min(self._ends), None, now_s)
        elif part.reason == "length":
            self._events += answer.shown(is_last=True)
            self._end(answer, "length")
        elif part.reason in UNFINISHED:
            raise Broken(f"the server gave the answer up: {part.reason}")
        elif part.reason:
            raise Junk(f"the server ended the answer with the reason {part.reason[:40]!r}")

    def _take_token(self, answer: RemoteAnswer, token: int, weight: dialects.Weight | None, now_s: float) -> bool:
        """Whether the answer ended with it."""
        if not 0 <= token < self._vocabulary:
            raise Junk(f"the server sent the token {token}; the model has {self._vocabulary}")
        if answer.constraint is not None:
            try:
                answer.constraint.add(min(self._ends) if token in self._ends else token)
            except InvalidRequest as error:
                raise Junk(f"the server's answer does not keep to the schema: {error}") from error
        self._tokens += 1
        shown, whole = answer.add(token, weight, token in self._ends, now_s)
        self._events += shown
        if whole:
            self._end(answer, "stop" if answer.text.stopped or token in self._ends else "length")
        return whole

    def _broken(self, answer: RemoteAnswer, error: Exception) -> None:
        """Its stream ended before the answer did, or could not begin."""
        if answer.stream is not None:
            answer.stream.close()
            answer.stream = None
        now_s = self._clock.monotonic_s()
        if isinstance(error, DependencyUnavailable):
            if not self.trouble:
                structlog.get_logger().warning("chat answers are held back", cause=str(error))
            self.trouble = str(error)
            if now_s >= self._not_before_s:  # many answers meet the same trouble at once
                self._not_before_s = now_s + self._pause_s
                self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)
        elif isinstance(error, Full) and answer.tokens:
            answer.not_before_s = now_s + error.retry_after_ms / 1000
        elif isinstance(error, Full | InvalidRequest):
            del self._answers[answer.generation.request_id]
            self._events.append(Refused(answer.generation.request_id, error))
        elif isinstance(error, Broken) and answer.tries + 1 < MOST_TRIES:
            answer.tries += 1
            answer.not_before_s = now_s + FIRST_PAUSE_S * 2**answer.tries
        else:
            self._end(
                answer, "failed", str(error) if isinstance(error, RecordError | Broken) else repr(error)[: dialects.MOST_WORDS]
            )

    def _end(self, answer: RemoteAnswer, reason: Reason, message: str = "") -> None:
        if answer.stream is not None:
            answer.stream.close()
            answer.stream = None
        self._events += answer.shown(is_last=True)
        answer.text.end()
        self._prompt_tokens += len(answer.generation.prompt)
        self._cached_tokens += answer.cached
        self._events.append(answer.finished(reason, message))
        del self._answers[answer.generation.request_id]
