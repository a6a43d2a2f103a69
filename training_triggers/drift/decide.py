"""Turns findings into one request for training: reads `drift-events-v1`, writes `training-requests-v1`, and reports the reason
for or against a request to `training-events-v1`. The decision is a pure function of the finding, of the earlier requests and of
how their runs ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.codec import Decoder, Encoder, SchemaIds
from schemas.durations import DAY_MS
from schemas.errors import BrokerUnavailable
from schemas.generated import DriftEvent, TrainingEvent, TrainingRequest
from schemas.signals import ALL, EMBEDDING
from schemas.topics import DRIFT_EVENTS, TRAINING_EVENTS, TRAINING_REQUESTS
from schemas.vocabulary import RunEvent
from streams import headers as h
from streams.broker import Broadcast, Commit
from streams.loop.outcome import Emit, Outcome
from streams.loop.processor import Processor
from streams.process.record_processor import decoded
from streams.readable import Followed, Readable
from streams.rows import OutRecords, Place, Polled, Rows
from training_triggers.drift.detect import RENEW
from training_triggers.journal import ENDS

ASKED_BY = "decide"
DUE = ("volume", "age")  # triggers that compare nothing
LOST_MS = DAY_MS  # a run without an end blocks its model for at most this time
LONGEST_PAUSE_MS = DAY_MS
READ_LIMIT_S = 60.0


@dataclass(frozen=True)
class RetrainPolicy:
    """cool_down_ms: time from the end of a model's run to the next run that drift may request. runs_per_day: maximum number of
    runs that drift requests within 24 hours; 0: drift requests none. baseline_ms: time that the baseline of a finding must
    span."""

    cool_down_ms: int = 600_000
    runs_per_day: int = 6
    baseline_ms: int = 0


@dataclass(frozen=True, slots=True)
class RunEnd:
    """kind: the last event of `journal.ENDS` that was written for a run."""

    kind: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Decision:
    ask: bool
    why: str


def run_key(event: DriftEvent) -> str:
    """The key of the run that a finding requests: the same for the same finding."""
    return f"{event.model}-{hashlib.sha256(event.event_id.encode()).hexdigest()[:8]}"


def onset_ms(event: DriftEvent) -> int:
    """Approximate start of the first of the event's windows in a row, as if each took as long as the last."""
    return event.from_ms - (event.in_a_row - 1) * (event.to_ms - event.from_ms)


def decide(
    event: DriftEvent, asked: Sequence[TrainingRequest], ends: Mapping[str, RunEnd], now_ms: int, policy: RetrainPolicy
) -> Decision:
    """asked: the requests for this model, oldest first. ends: by run key. now_ms: the broker's time of the finding."""
    if any(event.event_id in request.causes for request in asked):
        return Decision(False, "this finding has asked already")
    if not policy.runs_per_day:
        return Decision(False, "drift asks for no runs: MILLRACE_DRIFT_RUNS_PER_DAY is 0")
    if event.trigger not in DUE and event.baseline_ms < policy.baseline_ms:
        return Decision(
            False,
            f"its baseline spans {event.baseline_ms / 1000:.0f} s, and from {policy.baseline_ms / 1000:.0f} s on a finding asks "
            "(MILLRACE_DRIFT_BASELINE_S): until then a change may be the hour of the day",
        )
    for request in asked:
        if request.run_key not in ends and now_ms < request.decided_ms + LOST_MS:
            return Decision(False, f"{request.run_key} has not ended yet")
    if asked:
        pause_ms, since_ms = pause(asked, ends, policy)
        if now_ms < since_ms + pause_ms:
            words = f"{asked[-1].run_key} ended {max(0, now_ms - since_ms) / 1000:.0f} s ago"
            return Decision(False, f"{words}; the next may be in {(since_ms + pause_ms - now_ms) / 1000:.0f} s")
    today = sum(request.actor == ASKED_BY and request.decided_ms > now_ms - DAY_MS for request in asked)
    if today >= policy.runs_per_day:
        return Decision(
            False,
            f"drift asked for {today} runs within a day; at most {policy.runs_per_day} are allowed (MILLRACE_DRIFT_RUNS_PER_DAY)",
        )
    return Decision(True, words_of(event))


def pause(asked: Sequence[TrainingRequest], ends: Mapping[str, RunEnd], policy: RetrainPolicy) -> tuple[int, int]:
    """The pause after the last run of `asked` before the next request, and the time when that last run ended, both in ms. The
    pause doubles, up to a day, for each run in a row that drift requested and that did not lead to a new version: more such runs
    would end the same way."""
    in_vain = 0
    for request in reversed(asked):
        if request.run_key in ends and ends[request.run_key].kind == RunEvent.PROMOTED:
            break
        in_vain += request.actor == ASKED_BY
    last = asked[-1]
    since_ms = ends[last.run_key].at_ms if last.run_key in ends else last.decided_ms + LOST_MS
    return min(policy.cool_down_ms * 2 ** min(in_vain, 32), max(LONGEST_PAUSE_MS, policy.cool_down_ms)), since_ms


def words_of(event: DriftEvent) -> str:
    if event.trigger in DUE:
        return f"{event.trigger}: {event.statistic:.0f} {event.signal} since version {event.version} took over (retrains every {event.least_effect:.0f})"
    chance = "" if event.p_value is None else f", p {event.p_value:.2g}"
    joint = event.signal in (ALL, EMBEDDING)  # a mean over several columns has no meaning
    means = (
        ""
        if joint
        else f"; {_mean(event.baseline_mean, event.baseline_missing)} became {_mean(event.window_mean, event.window_missing)}"
    )
    return (
        f"{event.trigger} of {event.signal}: {event.effect:.3f}, from {event.least_effect} on it counts{chance}{means}; "
        f"{event.in_a_row} windows in a row"
    )


def _mean(mean: float, missing: float) -> str:
    if missing >= 1:
        return "no finite number"
    return f"mean {mean:.4g}" + (f" of all but {missing:.1%}" if missing > 0 else "")


class Decide(Processor):
    """Step and state of the loop. read: all training requests (also those of persons) and events, from the first."""

    def __init__(self, policy: RetrainPolicy, ids: SchemaIds, worker: str, read: Callable[[], Broadcast]) -> None:
        self._policy, self._ids, self._worker, self._read = policy, ids, worker, read
        self._decoder = Decoder.of(DRIFT_EVENTS, ids)
        self._requests = Encoder.of(TRAINING_REQUESTS, ids)
        self._events = Encoder.of(TRAINING_EVENTS, ids)
        self._asked: dict[str, list[TrainingRequest]] = {}
        self._ends: dict[str, RunEnd] = {}
        self._told: Broadcast | None = None
        self._topics: list[Followed[None]] = []

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        self.forget(())
        if positions:
            told = self._told = self._read()
            self._topics = [
                Followed(told, Readable(TRAINING_REQUESTS, self._ids, self._ask_of)),
                Followed(told, Readable(TRAINING_EVENTS, self._ids, self._end_of)),
            ]
            self._take(told.read_to_end(READ_LIMIT_S))
            if any(topic.waits for topic in self._topics):
                raise BrokerUnavailable("the schema registry does not answer: what was asked for before cannot be read")

    def forget(self, places: Iterable[Place]) -> None:
        self.close()
        self._asked, self._ends = {}, {}

    def close(self) -> None:
        if self._told is not None:
            self._told.close()
            self._told = None

    def _take(self, polled: Polled) -> None:
        for topic in self._topics:
            topic.take(polled)

    def _ask_of(self, record: dict[str, Any]) -> None:
        self._ask(TrainingRequest.from_dict(record))

    def _end_of(self, record: dict[str, Any]) -> None:
        if record["kind"] in ENDS:
            self._ends[record["run_key"]] = RunEnd(record["kind"], record["at_ms"])

    def _ask(self, request: TrainingRequest) -> None:
        """Remember a request; reading the same request twice changes nothing."""
        mine = self._asked.setdefault(request.model, [])
        if all(request.run_key != before.run_key for before in mine):
            mine.append(request)

    def process(self, rows: Rows) -> list[Outcome]:
        columns, done, outcomes = decoded(self._decoder, rows)
        if self._told is not None:
            self._take(self._told.poll())
        requests: list[TrainingRequest] = []
        events: list[TrainingEvent] = []
        for event, now_ms in zip(map(DriftEvent.from_dict, columns.records()), done.timestamps_ms, strict=True):
            if event.trigger == RENEW:
                continue
            before = [*self._asked.get(event.model, ()), *(one for one in requests if one.model == event.model)]
            decision = decide(event, before, self._ends, now_ms, self._policy)
            key = before[-1].run_key if before and not decision.ask else run_key(event)
            if decision.ask:
                requests.append(
                    TrainingRequest(
                        run_key=key,
                        model=event.model,
                        version=event.version,
                        reason=decision.why,
                        causes=(event.event_id,),
                        actor=ASKED_BY,
                        options={"since_ms": str(onset_ms(event))},
                        decided_ms=now_ms,
                    )
                )
            kind = RunEvent.ASKED if decision.ask else RunEvent.PASSED_OVER
            events.append(
                TrainingEvent(run_key=key, model=event.model, kind=kind, words=decision.why, cause=event.event_id, at_ms=now_ms)
            )
        for request in requests:
            self._ask(request)
        records = [
            *self._records(TRAINING_REQUESTS.name, self._requests, requests),
            *self._records(TRAINING_EVENTS.name, self._events, events),
        ]
        return [*outcomes, Emit(done, records)] if len(done) else outcomes

    def _records(
        self, topic: str, encoder: Encoder, records: Sequence[TrainingRequest] | Sequence[TrainingEvent]
    ) -> list[OutRecords]:
        if not records:
            return []
        values = [encoder.encode_one(record) for record in records]
        headers = h.cloud_event([record.run_key for record in records], records[0].RECORD, self._worker)
        return [OutRecords(topic, [record.model.encode() for record in records], values, headers)]
