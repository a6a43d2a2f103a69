"""The step of the chat worker: many answers at once on an engine of its own thread, their tokens on a topic as they are made.

At least once: the offset of a request waits until its answer has ended, and its tokens do not. After a crash or a change of the group
the next owner reads on the topic what was made, and continues from there with the same random numbers. A reader that follows
`streams/token_stream.py` sees each token once, and takes the first result of a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from inference_workers.chat.engine import Finished, Full, Token
from inference_workers.chat.load import ChatModel
from inference_workers.chat_service.cancels import Cancels
from inference_workers.chat_service.chat_answer import Answer
from inference_workers.chat_service.chat_judge import Judge, Judged
from inference_workers.chat_service.chat_records import ChatRecords, queue_ms
from inference_workers.chat_service.engine_thread import EngineThread, Refused
from inference_workers.chat_service.figures import Figures
from inference_workers.chat_service.requests import parsed
from inference_workers.chat_service.takeover import Begun, Log
from schemas.chat_topics import CHAT_REQUESTS
from schemas.codec import Decoder, SchemaIds
from schemas.errors import InvalidRequest, PoisonRecord, RecordError
from schemas.generated import ChatTokens
from schemas.vocabulary import Arm, FinishReason
from streams.broker import Commit
from streams.clock import Clock
from streams.loop.outcome import Emit, Outcome, Reject, rejects
from streams.loop.processor import Report
from streams.loop.step import Step
from streams.metrics import Metrics
from streams.rows import OutRecords, Place, Rows

MAX_VALUES = 100_000  # of a request, nested ones too; the size of a record is limited beside
ENDS_WITHOUT = (FinishReason.FAILED, FinishReason.BUSY)
RESTARTS = 1_000  # attempts of one generation of the group


@dataclass(frozen=True)
class Served:
    """The version that answers."""

    model: ChatModel
    name: str
    version: str
    digest: str


class ChatStep(Step):
    """span_records: how far ahead of a partition's oldest unfinished request others may be taken: so many are read again after a crash.
    max_tokens: of an answer. judge: what prompts and answers must pass, if anything."""

    def __init__(
        self,
        served: Served,
        log: Log,
        cancels: Cancels,
        registry: SchemaIds,
        clock: Clock,
        worker: str,
        metrics: Metrics,
        span_records: int,
        max_tokens: int,
        judge: Judge | None = None,
        judge_every_tokens: int = 32,
    ) -> None:
        self._served, self._log, self._cancels, self._clock = served, log, cancels, clock
        self._span_records, self._max_tokens = span_records, max_tokens
        self._judge, self._judge_every_tokens = judge, judge_every_tokens
        self._decoder = Decoder.of(CHAT_REQUESTS, registry, MAX_VALUES)
        self._records = ChatRecords(registry, worker)
        self._thread = EngineThread(served.model.engine, clock)
        self._figures = Figures(metrics, clock)
        self._answers: dict[str, Answer] = {}  # by the engine's key
        self._keys: dict[str, str] = {}  # of the answers under way, by request id
        self._for_room: list[Answer] = []  # taken over, and the engine is full: they began once, so they are not refused
        self._done: list[Outcome] = []
        self._taken: dict[Place, int] = {}  # the highest offset that was submitted
        self._before: dict[Place, int] = {}  # an earlier owner may have begun what lies below
        self._generation = self._restarts = self._numbered = 0

    # --- the group ------------------------------------------------------------------------------------------------

    def joined(self, generation: int) -> None:
        self._restarts = self._restarts + 1 if generation == self._generation else 0
        self._generation = generation

    @property
    def attempt(self) -> int:
        """Higher than that of any earlier owner of our partitions, and than ours before the last restore."""
        return max(0, self._generation) * RESTARTS + self._restarts % RESTARTS

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        self._before.update(self._log.ends(list(positions)))
        for place in positions:
            self._taken.pop(place, None)

    def forget(self, places: Iterable[Place]) -> None:
        """Rows of the remaining partitions are read again too: all answers end here, and go on from their tokens on the topic."""
        for key in self._answers:
            self._thread.cancel(key)
        self._answers, self._keys, self._for_room, self._done, self._taken = {}, {}, [], [], {}
        for place in places:
            self._before.pop(place, None)

    # --- requests come --------------------------------------------------------------------------------------------

    def submit(self, batch: Rows) -> None:
        columns, undecodable = self._decoder.decode(batch.values)
        self._done += rejects(batch, undecodable, "decode")
        rows = batch.without(undecodable)
        for place, offset in zip(batch.places, batch.offsets, strict=True):
            self._taken[place] = max(offset, self._taken.get(place, offset))
        fresh: list[Answer] = []
        taken_over: list[Answer] = []
        for i, fields in enumerate(columns.records()):
            row = Rows.empty(rows.epoch)
            row.extend(rows.take([i]))  # a copy: repeats of the request are added to it
            if (key := self._keys.get(row.request_ids[0])) is not None:
                self._answers[key].rows.extend(row)  # the same request once more: its first answer counts
                continue
            try:
                answer = self._answer_of(row, fields)
            except RecordError as error:
                self._done.append(Reject(row, error, "decode"))
                continue
            begun_before = row.offsets[0] < self._before.get(row.places[0], 0)
            (taken_over if begun_before else fresh).append(answer)
        if taken_over:
            self._take_over(taken_over)
        if fresh:
            self._publish([answer.begun() for answer in fresh])
        for answer in fresh:
            self._start(answer)

    def _answer_of(self, row: Rows, fields: Mapping[str, object]) -> Answer:
        model = self._served.model
        wanted = parsed(fields, row.request_ids[0], model.template, model.context_tokens, self._max_tokens)
        self._numbered += 1
        key = f"{row.request_ids[0]}#{self._numbered}"  # an id may come again while the engine ends its earlier generation
        answer = Answer(row, wanted, key, self.attempt, self._clock.now_ms())
        self._answers[key], self._keys[answer.request_id] = answer, key
        return answer

    def _take_over(self, answers: Sequence[Answer]) -> None:
        marks = self._records.tokens([self._named(answer.begun()) for answer in answers])
        found = self._log.begun(marks, min(answer.rows.timestamps_ms[0] for answer in answers))
        for answer in answers:
            self._continue(answer, found.get(answer.request_id, Begun()))

    def _continue(self, answer: Answer, begun: Begun) -> None:
        stream = begun.stream
        answer.resumed = answer.passed = bool(begun.tokens)
        answer.emitted = tuple(token.token for token in begun.tokens)
        answer.text, answer.sequence, answer.first_ms = begun.text, stream.sequence, stream.made_ms
        if stream.reason in ENDS_WITHOUT:
            assert stream.end is not None
            return self._fail(answer, PoisonRecord(stream.end["error_message"] or "an earlier owner gave it up"))
        if stream.end is not None:
            ended = Finished(
                answer.key,
                stream.reason,  # type: ignore[arg-type]  # a reason of the engine: the others were dealt with
                begun.text,
                stream.end["prompt_tokens"],
                stream.end["completion_tokens"],
                stream.end["cached_tokens"],
                ms_per_token=stream.end["ms_per_token"],
            )
            answer.cut = (stream.end["error_message"] or "") if stream.reason == FinishReason.CONTENT_FILTER else ""
            return self._end(answer, ended, published=True)
        version = stream.begun.get("version")
        if answer.resumed and version != self._served.version:
            words = f"version {version} began this answer, and {self._served.version} runs now: ask again"
            return self._fail(answer, InvalidRequest(words))
        return self._start(answer)

    def _start(self, answer: Answer) -> None:
        if answer.request_id in self._cancels:
            ended = Finished(answer.key, "cancelled", answer.text, len(answer.input.prompt), answer.sequence)
            self._end(answer, ended)
            return
        if self._judge is not None and not answer.passed:
            self._judge.judge(answer.key, answer.input.question)
            return
        rows = answer.rows
        self._thread.add(answer.input.generation(answer.key, answer.emitted, rows.priorities[0], rows.deadlines_ms[0]))

    # --- answers end ----------------------------------------------------------------------------------------------

    def completed(self, wait_s: float) -> list[Outcome]:
        made: dict[str, Answer] = {}
        ended: list[tuple[Answer, Finished]] = []
        for event in self._thread.events(0.0 if self._done or not self._answers else wait_s):
            answer = self._answers.get(event.request_id)
            if answer is None:
                continue  # forgotten meanwhile
            match event:
                case Token():
                    answer.waiting.append(event)
                    made[answer.key] = answer
                case Finished():
                    made.pop(answer.key, None)
                    ended.append((answer, event))
                case Refused():
                    self._refused(answer, event)
        now_ms, text_of = self._clock.now_ms(), self._text_of
        for answer in made.values():
            self._figures.made(answer, now_ms)
        self._publish([answer.tokens(now_ms, text_of) for answer in made.values()])
        for answer in made.values():
            self._let_judge(answer)
        for answer, event in ended:
            self._end(answer, event)
        done, self._done = self._done, []
        return done

    def _let_judge(self, answer: Answer) -> None:
        if self._judge is not None and answer.sequence - answer.judged_to >= self._judge_every_tokens:
            answer.judged_to = answer.sequence
            self._judge.judge(answer.key, answer.text)

    def _judged(self, judged: Judged) -> None:
        """Without a verdict nothing goes on: whoever turns moderation on wants no text that nobody judged."""
        answer = self._answers.get(judged.key)
        if answer is None or answer.cut:
            return
        if not judged.flagged and not judged.error:
            if not answer.passed:
                answer.passed = True
                self._start(answer)
            return
        answer.cut = f"moderation flags it: {', '.join(judged.flagged)}" if judged.flagged else f"no verdict: {judged.error}"
        if answer.passed:
            self._thread.cancel(answer.key)
            return
        self._end(answer, Finished(answer.key, "cancelled", "", len(answer.input.prompt), 0))

    def _refused(self, answer: Answer, refused: Refused) -> None:
        error = refused.error
        if not isinstance(error, Full):
            wrong = error if isinstance(error, RecordError) else PoisonRecord(str(error))
            return self._fail(answer, wrong)
        if answer.resumed:
            return self._for_room.append(answer)
        self._drop(answer)
        records = self._ends_without(answer.rows, FinishReason.BUSY, error.code, str(error), retry_after_ms=error.retry_after_ms)
        self._done.append(Emit(answer.rows, records))
        return None

    def _end(self, answer: Answer, ended: Finished, published: bool = False) -> None:
        """published: whether the last record of its tokens is on the topic."""
        self._drop(answer)
        if ended.reason == "failed":
            self._fail(answer, PoisonRecord(ended.message))
            return self._try_again()
        now_ms = self._clock.now_ms()
        if answer.waiting:
            self._figures.made(answer, now_ms)
        last = self._named(answer.tokens(now_ms, self._text_of) if answer.waiting else answer.begun(), answer.usage(ended))
        last = replace(last, error_message=answer.cut or None)
        records = [] if published else [self._records.tokens([last])]
        expired = ended.reason == "expired"
        compute_ms = float(now_ms - answer.started_ms)
        use = {"name": self._served.name, "version": self._served.version, "arm": Arm.LIVE.value, "compute_ms": compute_ms}
        records += self._records.results(
            answer.rows,
            status="expired" if expired else "ok",
            error_code="deadline" if expired else "flagged" if answer.cut else None,
            error_message=(ended.message or "the deadline passed while it was answered") if expired else answer.cut or None,
            batch_size=max(1, self._thread.figures.running),
            queue_ms=queue_ms(answer.rows, answer.started_ms),
            compute_ms=compute_ms,
            models=[use],
            text=answer.text,
            attempt=answer.attempt,
            conversation_id=answer.input.conversation_id,
            **answer.usage(ended),
        )
        self._done.append(Emit(answer.rows, records))
        return self._try_again()

    def _fail(self, answer: Answer, error: RecordError) -> None:
        self._drop(answer)
        self._done += [Reject(answer.rows.take([i]), error, "task") for i in range(len(answer.rows))]

    def _drop(self, answer: Answer) -> None:
        self._answers.pop(answer.key, None)
        self._keys.pop(answer.request_id, None)

    def _try_again(self) -> None:
        """The engine may have room now."""
        waiting, self._for_room = self._for_room, []
        for answer in waiting:
            self._start(answer)

    def answer(self, rows: Rows, status: str, code: str, message: str) -> list[OutRecords]:
        return self._ends_without(rows, status, code, message)

    def _ends_without(self, rows: Rows, status: str, code: str, message: str, **fields: object) -> list[OutRecords]:
        """A result without an answer, and the end of its tokens: whoever follows them waits no longer."""
        ends = [
            self._named(ChatTokens(request_id=one, attempt=self.attempt, sequence=0), {"finish_reason": status}, message)
            for one in rows.request_ids
        ]
        results = self._records.results(rows, status=status, error_code=code, error_message=message, **fields)
        return [self._records.tokens(ends), *results]

    def _publish(self, records: Sequence[ChatTokens]) -> None:
        """Tokens do not wait for the offsets of their requests."""
        if records:
            named = [self._named(record) for record in records]
            self._done.append(Emit(Rows.empty(), [self._records.tokens(named)]))

    def _named(self, record: ChatTokens, usage: Mapping[str, object] | None = None, error: str | None = None) -> ChatTokens:
        """The record with our version; with usage it is the last of its answer."""
        last = {"last": True, **usage} if usage is not None else {}
        fields: dict[str, object] = {"model": self._served.name, "version": self._served.version, "error_message": error, **last}
        return replace(record, **fields)  # type: ignore[arg-type]  # fields by name

    def _text_of(self, token: int) -> str:
        return self._served.model.template.text([token])

    # --- what the loop asks ---------------------------------------------------------------------------------------

    def busy(self) -> bool:
        return bool(self._answers or self._done)

    def takes_more(self) -> bool:
        """Until a long answer holds back the offsets of too many others: these would be read again after a crash."""
        first: dict[Place, int] = {}
        for answer in self._answers.values():
            for place, offset in zip(answer.rows.places, answer.rows.offsets, strict=True):
                first[place] = min(offset, first.get(place, offset))
        return all(self._taken[place] - offset < self._span_records for place, offset in first.items())

    def keeps(self, place: Place) -> bool:
        return any(place in answer.rows.places for answer in self._answers.values())

    def takes_long(self, batch: Rows) -> bool:
        return False

    def working_since_s(self) -> float | None:
        return self._thread.working_since_s

    def tick(self) -> None:
        self._cancels.follow(self._cancel)
        self._figures.tick(self._thread.figures)
        for judged in self._judge.judged() if self._judge is not None else ():
            self._judged(judged)

    def _cancel(self, request_id: str) -> None:
        if (key := self._keys.get(request_id)) is not None:
            self._thread.cancel(key)
            self._try_again()  # it may be one that waits for room

    def report(self) -> Report:
        served = self._served
        return Report(versions={served.name: served.version}, digests={served.name: served.digest})

    def close(self) -> None:
        self._thread.close()
        self._cancels.close()
        if self._judge is not None:
            self._judge.close()
