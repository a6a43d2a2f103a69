"""The step of the chat worker: many answers at once on an engine of its own thread, their tokens on a topic as they are made.

At least once: the offset of a request waits until its answer has ended, and its tokens do not. After a crash or a change of the group
the next owner reads on the topic what was made, and continues from there with the same random numbers. A reader that follows
`streams/token_stream.py` sees each token once, and takes the first result of a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from inference_workers.chat.conversation import Message
from inference_workers.chat.engine import Finished, Full, Refused, Token
from inference_workers.chat_service.cancels import Cancels
from inference_workers.chat_service.chat_answer import MOST_IN_A_RECORD, Answer
from inference_workers.chat_service.chat_judge import Judge, Judged
from inference_workers.chat_service.chat_records import ChatRecords, last
from inference_workers.chat_service.chat_review import Reviews
from inference_workers.chat_service.chat_versions import ChatVersions
from inference_workers.chat_service.figures import Figures
from inference_workers.chat_service.history import History
from inference_workers.chat_service.prefix import WITHOUT_TEXT, foreign
from inference_workers.chat_service.requests import ChatInput, parsed
from inference_workers.chat_service.serving import Engines, Serving
from inference_workers.chat_service.takeover import Begun, Log
from schemas.chat_topics import CHAT_REQUESTS, CHAT_TOKENS
from schemas.codec import Decoder, SchemaIds
from schemas.errors import InvalidRequest, PoisonRecord, RecordError, RetryLater, Stop
from schemas.generated import ChatTokens
from schemas.vocabulary import FinishReason
from streams.broker import Commit
from streams.clock import Clock
from streams.loop.outcome import Defer, Emit, Outcome, Reject, rejects
from streams.loop.processor import Report
from streams.loop.step import Step
from streams.metrics import Metrics
from streams.rows import OutRecords, Place, Rows

MAX_VALUES = 100_000  # of a request, nested ones too; the size of a record is limited beside
REREADS = 2**20  # attempts of one generation of the group
TAKEN_OVER_AT_ONCE = 64
FULL_RETRY_MS = 1_000  # where an earlier owner's time to retry is not known


class ChatStep(Step):
    """span_records: how far ahead of a partition's oldest unfinished request others may be taken: so many are read again after a crash.
    max_tokens: of an answer. judge: what prompts and answers must pass, if anything."""

    def __init__(
        self,
        versions: ChatVersions,
        log: Log,
        cancels: Cancels,
        registry: SchemaIds,
        clock: Clock,
        worker: str,
        metrics: Metrics,
        span_records: int,
        max_tokens: int,
        history: History,
        judge: Judge | None = None,
        judge_every_tokens: int = 32,
    ) -> None:
        self._versions, self._log, self._cancels, self._clock, self._history = versions, log, cancels, clock, history
        self._span_records, self._max_tokens = span_records, max_tokens
        self._reviews = Reviews(judge, judge_every_tokens)
        self._decoder = Decoder.of(CHAT_REQUESTS, registry, MAX_VALUES)
        self._records = ChatRecords(registry, worker)
        self._engines = Engines(versions.current, clock)
        self._figures = Figures(metrics, clock)
        self._answers: dict[str, Answer] = {}  # by the engine's key
        self._keys: dict[str, str] = {}  # of the answers under way, by request id
        self._for_log: list[Answer] = []  # taken over, and their tokens are not read back yet
        self._for_room: list[Answer] = []  # taken over, and the engine is full: they began once, so they are not refused
        self._done: list[Outcome] = []
        self._taken: dict[Place, int] = {}  # the highest offset that was submitted
        self._before: dict[Place, int] = {}  # an earlier owner may have begun what lies below
        self._generation = self._rereads = self._numbered = 0

    # --- the group ------------------------------------------------------------------------------------------------

    def joined(self, generation: int) -> None:
        self._rereads = self._rereads + 1 if generation == self._generation else 0
        self._generation = generation
        if self._rereads == REREADS:
            raise Stop(f"generation {generation} of the group was read again {REREADS} times: its attempts are used up")

    @property
    def attempt(self) -> int:
        """Higher than that of any earlier owner of our partitions, and than ours before the last restore."""
        return max(0, self._generation) * REREADS + self._rereads

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        self._before.update(self._log.ends(list(positions)))
        for place in positions:
            self._taken.pop(place, None)

    def forget(self, places: Iterable[Place]) -> None:
        """Rows of the remaining partitions are read again too: all answers end here, and go on from their tokens on the topic."""
        for answer in self._answers.values():
            answer.serving.thread.cancel(answer.key)
        self._answers, self._keys, self._for_log, self._for_room, self._done, self._taken = {}, {}, [], [], [], {}
        for place in places:
            self._before.pop(place, None)

    # --- requests come --------------------------------------------------------------------------------------------

    def submit(self, batch: Rows) -> None:
        self._history.look_again()
        try:
            columns, undecodable = self._decoder.decode(batch.values)
        except RetryLater as error:  # a schema is not known yet, and the registry does not answer
            self._done.append(Defer(batch, error, "decode"))
            return
        self._done += rejects(batch, undecodable, "decode")
        rows = batch.without(undecodable)
        for place, offset in zip(batch.places, batch.offsets, strict=True):
            self._taken[place] = max(offset, self._taken.get(place, offset))
        fresh: list[Answer] = []
        for i, fields in enumerate(columns.records()):
            row = Rows.empty(rows.epoch)
            row.extend(rows.take([i]))  # a copy: repeats of the request are added to it
            if (key := self._keys.get(row.request_ids[0])) is not None:
                self._answers[key].rows.extend(row)  # the same request once more: its first answer counts
                continue
            try:
                answer = self._answer_of(row, fields)
            except Exception as error:  # whatever it is, it is this request's
                self._done.append(Reject(row, _of_record(error), "decode"))
                continue
            if row.offsets[0] < self._before.get(row.places[0], 0):
                self._for_log.append(answer)
            elif not self._talks_already(answer):
                fresh.append(answer)
        self._publish([answer.begun() for answer in fresh])
        for answer in fresh:
            self._start(answer)
        if acks := self._versions.acknowledged(batch):
            self._done.append(Emit(Rows.empty(), acks))

    def _answer_of(self, row: Rows, fields: Mapping[str, object]) -> Answer:
        serving = self._engines.newest
        wanted = self._input(row, fields, serving)
        self._numbered += 1
        key = f"{row.request_ids[0]}#{self._numbered}"  # an id may come again while the engine ends its earlier generation
        answer = Answer(row, fields, wanted, serving, key, self.attempt, self._clock.now_ms())
        self._answers[key], self._keys[answer.request_id] = answer, key
        return answer

    def _input(self, row: Rows, fields: Mapping[str, object], serving: Serving) -> ChatInput:
        (_, partition), offset, key = row.places[0], row.offsets[0], row.keys[0]

        def earlier(conversation_id: str) -> list[Message]:
            if key != conversation_id.encode():
                raise InvalidRequest(
                    "the key of a request that continues must be its conversation_id: it keeps the turns in order"
                )
            return self._history.before(conversation_id, partition, offset)

        model = serving.served.model
        return parsed(fields, row.request_ids[0], model.template, model.context_tokens, self._max_tokens, earlier)

    def _talks_already(self, answer: Answer) -> bool:
        """Whether an earlier message of its conversation is not answered yet: then this one is refused, since it would not know it."""
        if not answer.input.asked:
            return False
        conversation_id, offset = answer.input.conversation_id, answer.rows.offsets[0]
        before = [one for one in self._answers.values() if one.input.asked and one.rows.offsets[0] < offset]
        same = [one for one in before if one.input.conversation_id == conversation_id]
        if all(self._history.knows(one) for one in same):
            return False
        self._give_up(answer, "conversation-busy", "an earlier message of this conversation is not answered yet", FULL_RETRY_MS)
        return True

    def _take_over(self) -> None:
        self._history.look_again()
        answers, self._for_log = self._for_log, []
        marks = self._records.tokens([answer.begun() for answer in answers])
        begun = self._log.begun(marks, min(answer.rows.timestamps_ms[0] for answer in answers))
        for answer in answers:
            try:
                self._continue(answer, begun.get(answer.request_id, Begun()))
            except Exception as error:  # whatever it is, it is this request's
                self._fail(answer, _of_record(error))

    def _continue(self, answer: Answer, begun: Begun) -> None:
        stream, end = begun.stream, begun.stream.end
        answer.attempt = max(answer.attempt, stream.attempt)  # whoever wrote it: readers count no lower attempt
        if end is not None and stream.reason in WITHOUT_TEXT:
            return self._end_again(answer, stream.reason, end)
        version, gone = begun.first.get("version"), ""
        if begun.tokens and version != answer.served.version:
            old = self._engines.of(version)
            if old is None:
                gone = f"version {version} began this answer, and {answer.served.version} runs now: ask again"
            else:
                answer.serving, answer.input = old, self._input(answer.rows, answer.fields, old)
        why = foreign(begun, answer.served.model, answer.input.sampling.stop, answer.input.sampling.max_tokens)
        if gone and (why or end is None):
            return self._fail(answer, InvalidRequest(gone))
        if why:
            words = (
                f"the tokens of this answer on {CHAT_TOKENS.name} were not written by a worker: {why}. Ask again under another id"
            )
            return self._fail(answer, InvalidRequest(words))
        if gone:  # it ended, and only its result is missing: that names what made it
            made_by = replace(answer.served, name=begun.first["model"], version=begun.first["version"])
            answer.serving = replace(answer.serving, served=made_by)
        answer.resumed = bool(begun.tokens)
        answer.emitted = tuple(token.token for token in begun.tokens)
        answer.text, answer.sequence, answer.first_ms = begun.text, stream.sequence, stream.made_ms
        if end is None:
            if not answer.resumed and self._talks_already(answer):
                return None
            if answer.input.asked:  # an earlier turn may have ended only now, from its tokens
                answer.input = self._input(answer.rows, answer.fields, answer.serving)
            return self._start(answer)
        answer.review.cut = (end["error_message"] or "flagged") if stream.reason == FinishReason.CONTENT_FILTER else ""
        return self._end(answer, begun.finished(answer.key), published=True)

    def _end_again(self, answer: Answer, reason: str, end: Mapping[str, Any]) -> None:
        """An earlier owner ended it without an answer. That was readable already, so the result says the same."""
        message, code = end["error_message"] or "an earlier owner gave it up", end["error_code"]
        if reason == FinishReason.BUSY:
            return self._give_up(answer, code or Full.code, message, end["retry_after_ms"] or FULL_RETRY_MS)
        error = PoisonRecord(message)
        error.code = code or error.code
        return self._fail(answer, error)

    def _start(self, answer: Answer) -> None:
        if answer.request_id in self._cancels:
            self._end(answer, answer.cancelled())
        elif not self._reviews.asks_first(answer):
            rows = answer.rows
            answer.serving.thread.add(
                answer.input.generation(answer.key, answer.emitted, rows.priorities[0], rows.deadlines_ms[0])
            )

    # --- answers end ----------------------------------------------------------------------------------------------

    def completed(self, wait_s: float) -> list[Outcome]:
        if self._for_log and (wait_s > 0 or len(self._for_log) >= TAKEN_OVER_AT_ONCE):
            self._take_over()  # the loop has no more to submit: their topic is read once for all of them
        touched: dict[str, Answer] = {}
        for event in self._engines.events(0.0 if self._done or not self._answers else wait_s):
            answer = self._answers.get(event.request_id)
            if answer is None:
                continue  # forgotten meanwhile
            match event:
                case Token():
                    if not answer.review.cut:
                        answer.waiting.append(event)
                case Finished():
                    answer.ended = event
                case Refused():
                    self._refused(answer, event)
                    continue
            touched[answer.key] = answer
        self._advance(list(touched.values()))
        done, self._done = self._done, []
        return done

    def _advance(self, answers: Sequence[Answer]) -> None:
        """Show the new tokens of these answers as far as they may be read, and end those that have ended."""
        now_ms, shown = self._clock.now_ms(), []
        ending: list[tuple[Answer, Finished]] = []
        for answer in answers:
            if answer.ended is not None and self._reviews.may_end(answer):
                ending.append((answer, answer.ended))
                continue
            self._reviews.ask(answer)
            count = self._reviews.may_show(answer)
            while count > 0:
                self._figures.made(answer, now_ms)
                shown.append(answer.tokens(min(count, MOST_IN_A_RECORD)))
                count -= MOST_IN_A_RECORD
        self._publish(shown)
        for answer, ended in ending:
            self._end(answer, ended)

    def _judged(self, judged: Judged) -> None:
        answer = self._answers.get(judged.key)
        if answer is None or answer.review.cut:
            return None
        began = answer.review.passed
        self._reviews.take(answer, judged)
        if not answer.review.cut:
            return self._advance([answer]) if began else self._start(answer)
        if began and answer.ended is None:
            return answer.serving.thread.cancel(answer.key)
        return self._end(answer, answer.ended or answer.cancelled())

    def _refused(self, answer: Answer, refused: Refused) -> None:
        error = refused.error
        if not isinstance(error, Full):
            return self._fail(answer, _of_record(error))
        if answer.resumed:
            return self._for_room.append(answer)
        return self._give_up(answer, error.code, str(error), error.retry_after_ms)

    def _give_up(self, answer: Answer, code: str, message: str, retry_after_ms: int) -> None:
        self._drop(answer)
        records = self._records.without_answer(answer.rows, answer.attempt, FinishReason.BUSY, code, message, retry_after_ms)
        self._done.append(Emit(answer.rows, records))

    def _end(self, answer: Answer, ended: Finished, published: bool = False) -> None:
        """published: whether the last record of its tokens is on the topic."""
        self._drop(answer)
        if ended.reason == "failed" and not answer.review.cut:
            self._fail(answer, PoisonRecord(ended.message))
            return self._try_again()
        now_ms = self._clock.now_ms()
        if answer.waiting:
            self._figures.made(answer, now_ms)
        records = self._records.ended(answer, ended, now_ms, answer.serving.thread.figures.running, published)
        self._history.note(answer, answer.usage(ended)["finish_reason"])
        self._done.append(Emit(answer.rows, records))
        return self._try_again()

    def _fail(self, answer: Answer, error: RecordError) -> None:
        self._drop(answer)
        if answer.attempt > self.attempt:  # for readers of a stream that somebody else wrote into
            end = last(answer.begun(), str(error), error.code, finish_reason=FinishReason.FAILED.value)
            self._done.append(Emit(Rows.empty(), [self._records.tokens([end])]))
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
        return self._records.without_answer(rows, self.attempt, status, code, message)

    def _publish(self, records: Sequence[ChatTokens]) -> None:
        """Tokens do not wait for the offsets of their requests."""
        if records:
            self._done.append(Emit(Rows.empty(), [self._records.tokens(records)]))

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

    def working_since_s(self) -> float | None:
        return self._engines.working_since_s()

    def tick(self) -> None:
        self._versions.follow()
        if self._engines.follow(self._versions.current, (answer.serving for answer in self._answers.values())):
            self._figures.begin_again()
        self._cancels.follow(self._cancel)
        self._figures.tick(self._engines.newest.thread.figures)
        for judged in self._reviews.judged():
            self._judged(judged)

    def _cancel(self, request_id: str) -> None:
        key = self._keys.get(request_id)
        if key is not None:
            self._answers[key].serving.thread.cancel(key)
            self._try_again()  # it may be one that waits for room

    def report(self) -> Report:
        served = self._engines.newest.served
        return Report({served.name: served.version}, {served.name: served.digest}, self._versions.notes)

    def close(self) -> None:
        self._engines.close()
        self._versions.close()
        self._cancels.close()
        self._reviews.close()
        self._history.close()


def _of_record(error: Exception) -> RecordError:
    return error if isinstance(error, RecordError) else PoisonRecord(f"{type(error).__name__}: {error}")
