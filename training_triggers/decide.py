"""From findings to one request for training: `drift-events-v1` to `training-requests-v1`, and why or why not to
`training-events-v1`. The decision is a pure function of the finding and of what was asked for before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from processors.step import decoded
from schemas.codec import Decoder, Encoder, SchemaIds
from schemas.generated import DriftEvent, TrainingEvent, TrainingRequest
from schemas.signals import ALL, EMBEDDING
from schemas.topic import DAY_MS
from schemas.topics import TRAINING_EVENTS, TRAINING_REQUESTS
from streams import headers as h
from streams.broker import Commit
from streams.outcome import Emit, Outcome
from streams.rows import OutRecords, Place, Rows


@dataclass(frozen=True)
class Policy:
    """cool_down_ms: between two requests for a model. a_day: requests for a model within 24 hours."""

    cool_down_ms: int = 600_000
    a_day: int = 6


@dataclass(frozen=True, slots=True)
class Decision:
    ask: bool
    why: str


def run_key(event: DriftEvent) -> str:
    """The same finding asks for the same run."""
    return f"{event.model}-{hashlib.sha256(event.event_id.encode()).hexdigest()[:8]}"


def onset_ms(event: DriftEvent) -> int:
    """About when the first of its windows in a row began, as if all took as long as the last."""
    return event.from_ms - (event.in_a_row - 1) * (event.to_ms - event.from_ms)


def decide(event: DriftEvent, asked: Sequence[TrainingRequest], now_ms: int, policy: Policy) -> Decision:
    """asked: the requests for this model, oldest first. now_ms: the broker's time of the finding."""
    if any(event.event_id in request.causes for request in asked):
        return Decision(False, "this finding has asked already")
    if asked:
        left_ms = asked[-1].decided_ms + policy.cool_down_ms - now_ms
        if left_ms > 0:
            return Decision(
                False,
                f"{asked[-1].run_key} was asked for {(now_ms - asked[-1].decided_ms) / 1000:.0f} s ago; the next may be in {left_ms / 1000:.0f} s",
            )
    today = sum(request.decided_ms > now_ms - DAY_MS for request in asked)
    if today >= policy.a_day:
        return Decision(False, f"{today} runs were asked for within a day, and {policy.a_day} is the most")
    return Decision(True, words_of(event))


def words_of(event: DriftEvent) -> str:
    if event.trigger in ("volume", "age"):
        return f"{event.trigger}: {event.statistic:.0f} {event.signal} since {event.version} took over, each {event.least_effect:.0f} it is trained anew"
    chance = "" if event.p_value is None else f", p {event.p_value:.2g}"
    joint = event.signal in (ALL, EMBEDDING)  # of several columns a mean says nothing
    means = "" if joint else f"; mean {event.baseline_mean:.4g} became {event.window_mean:.4g}"
    return (
        f"{event.trigger} of {event.signal}: {event.effect:.3f}, from {event.least_effect} on it counts{chance}{means}; "
        f"{event.in_a_row} windows in a row"
    )


class Decide:
    """Step and state of the loop. read_requests: all committed requests, oldest first; of persons, too."""

    def __init__(
        self, policy: Policy, ids: SchemaIds, worker: str, read_requests: Callable[[], Iterable[TrainingRequest]]
    ) -> None:
        self._policy, self._worker, self._read_requests = policy, worker, read_requests
        self._decoder = Decoder("drift-event", ids)
        self._requests = Encoder("training-request", TRAINING_REQUESTS.subject, ids)
        self._events = Encoder("training-event", TRAINING_EVENTS.subject, ids)
        self._asked: dict[str, list[TrainingRequest]] = {}

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        self._asked = {}
        if positions:
            for request in self._read_requests():
                self._asked.setdefault(request.model, []).append(request)

    def forget(self, places: Iterable[Place]) -> None:
        self._asked = {}

    def process(self, rows: Rows) -> list[Outcome]:
        columns, done, outcomes = decoded(self._decoder, rows)
        requests: list[TrainingRequest] = []
        events: list[TrainingEvent] = []
        for event, now_ms in zip(map(DriftEvent.from_dict, columns.records()), done.timestamps_ms, strict=True):
            before = [*self._asked.get(event.model, ()), *(one for one in requests if one.model == event.model)]
            decision = decide(event, before, now_ms, self._policy)
            key = run_key(event) if decision.ask else before[-1].run_key
            if decision.ask:
                requests.append(TrainingRequest(
                    run_key=key, model=event.model, version=event.version, reason=decision.why, causes=(event.event_id,),
                    actor="decide", options={"since_ms": str(onset_ms(event))}, decided_ms=now_ms,
                ))  # fmt: skip
            kind = "asked" if decision.ask else "passed_over"
            events.append(TrainingEvent(
                run_key=key, model=event.model, kind=kind, words=decision.why, cause=event.event_id, at_ms=now_ms
            ))  # fmt: skip
        for request in requests:
            self._asked.setdefault(request.model, []).append(request)
        records = [
            *self._records(TRAINING_REQUESTS.name, self._requests, requests), *self._records(TRAINING_EVENTS.name, self._events, events),
        ]  # fmt: skip
        return [*outcomes, Emit(done, records)] if len(done) else outcomes

    def answer(self, rows: Rows, status: str, code: str, message: str) -> list[OutRecords]:
        return []

    def _records(
        self, topic: str, encoder: Encoder, records: Sequence[TrainingRequest] | Sequence[TrainingEvent]
    ) -> list[OutRecords]:
        if not records:
            return []
        values = [encoder.encode_one(record) for record in records]
        headers = h.cloud_event([record.run_key for record in records], records[0].RECORD, self._worker)
        return [OutRecords(topic, [record.model.encode() for record in records], values, headers)]
