"""The loop's part of attribution: an answer waits in flight until its window has ended, then it gets its label.

Its offset is committed together with its label. So a process that dies leaves nothing behind: the next one reads the answers that
have no label yet, and the events since the first of them. However far both lie back, an answer is labelled only when all events that
were there after its window are read.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from processors.recommendation.attribution import Attribution, label_of
from processors.recommendation.attribution_topics import AttributionTopics, Events
from schemas.codec import Decoder, Encoder, SchemaIds
from schemas.encoding import Constant
from schemas.errors import BrokerUnavailable, RetryLater
from schemas.topics import LABELS, RECOMMENDATION_RESULTS, USER_EVENTS_VALID
from streams import headers as h
from streams.broker import Commit
from streams.clock import Clock
from streams.loop.outcome import Emit, Outcome, rejects
from streams.loop.step import Step
from streams.readable import Readable
from streams.rows import OutRecords, Place, Polled, Rows

# Answers and events have the times of the brokers that took them, and the end of a window is told by this process's clock: an
# answer waits so much longer than its window, in case the clocks differ.
GRACE_MS = 3_000
LATE_MS = 60_000  # past its window an answer may wait so long before its partition counts as standing still
CHECK_EVERY_MS = 5_000  # the broker is asked at most so often where its events end
FORGET_EVERY_MS = 60_000
_DIGITS = re.compile(rb"[0-9]{1,15}")


@dataclass(order=True, slots=True)
class _Waiting:
    """due_ms: when its window has ended. offset: of the answer."""

    due_ms: int
    offset: int
    row: Rows = field(compare=False)
    result: dict[str, Any] = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where the valid events ended. Whoever has read them up to there has all events that came before at_ms."""

    at_ms: int
    ends: Mapping[Place, int]


class AttributionStep(Step):
    """window_ms: how long after an answer an event counts."""

    def __init__(self, ids: SchemaIds, worker: str, clock: Clock, topics: AttributionTopics, window_ms: int) -> None:
        self._clock, self._worker, self._topics, self._window_ms = clock, worker, topics, window_ms
        self._results, self._labels = Decoder.of(RECOMMENDATION_RESULTS, ids), Encoder.of(LABELS, ids)
        self._readable = Readable(USER_EVENTS_VALID, ids, dict)
        self._events: Events | None = None
        self._log = structlog.get_logger()
        self.forget(())

    # --- state beside the offsets --------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        """positions: of new partitions, while answers of others wait here; or of all, after `forget`."""
        self._next.update({place: commit.offset for place, commit in positions.items()})
        first_ms = self._first_answer_ms()
        self._drop_events()
        self._events = self._topics.open_events(first_ms - GRACE_MS)

    def forget(self, places: Iterable[Place]) -> None:
        """Everything: what was in flight is read again, whichever partitions left."""
        self._drop_events()
        self._waiting: dict[Place, list[_Waiting]] = {}  # heaps
        self._next: dict[Place, int] = {}  # offset of the next answer of each place that is ours
        self._done: list[Outcome] = []

    def _drop_events(self) -> None:
        self.close()
        self._attribution = Attribution(self._window_ms)
        self._unread = Polled()  # events that wait for the registry
        self._mark: _Mark | None = None
        self._unvalidated_ms: int | None = None
        self._checked_ms, self._forgot_ms = 0, self._clock.now_ms()

    def _first_answer_ms(self) -> int:
        """When the first answer came that waits or is still to be read; now without any. Raises BrokerUnavailable."""
        unread_ms = self._topics.oldest_ms(self._next)
        answered_ms = [heap[0].due_ms - GRACE_MS - self._window_ms for heap in self._waiting.values() if heap]
        return min([*answered_ms, self._clock.now_ms() if unread_ms is None else unread_ms])

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    # --- batches -------------------------------------------------------------------------------------------------------

    def submit(self, batch: Rows) -> None:
        for place, offset in zip(batch.places, batch.offsets, strict=True):
            self._next[place] = max(offset + 1, self._next.get(place, 0))
        columns, errors = self._results.decode(batch.values)
        self._done += rejects(batch, errors, "decode")
        rows = batch.without(errors)
        for number, result in enumerate(columns.records()):
            row = rows.slice(number, number + 1)
            if result["status"] == "ok" and result["user_id"] and result["items"]:
                due_ms = row.timestamps_ms[0] + self._window_ms + GRACE_MS
                heapq.heappush(self._waiting.setdefault(row.places[0], []), _Waiting(due_ms, row.offsets[0], row, result))
            else:
                self._done.append(Emit(row))

    def completed(self, wait_s: float) -> list[Outcome]:
        if self._events is not None:
            self._take(self._events)
            self._label(self._events)
            self._forget_old()
        done, self._done = self._done, []
        return done

    def keeps(self, place: Place) -> bool:
        waiting = self._waiting.get(place, [])
        if not waiting:
            return False
        on_time = self._clock.now_ms() < waiting[0].due_ms + LATE_MS
        return on_time or (self._unvalidated_ms is not None and waiting[0].due_ms > self._unvalidated_ms + GRACE_MS)

    # --- events -------------------------------------------------------------------------------------------------

    def _take(self, events: Events) -> None:
        """Take new events. While the registry does not answer, no more are read."""
        if not len(self._unread):
            self._unread.extend(events.poll())
        try:
            for row, event in self._readable.rows(self._unread) if len(self._unread) else ():
                self._attribution.add(event, _arrived_ms(self._unread, row))
        except RetryLater as error:
            self._log.warning("events wait for the registry", cause=str(error))
            return
        self._unread = Polled()

    def _forget_old(self) -> None:
        """Events that no answer can have caused, neither one that waits nor one that is still to be read."""
        now_ms = self._clock.now_ms()
        if now_ms - self._forgot_ms < FORGET_EVERY_MS:
            return
        self._forgot_ms = now_ms
        try:
            first_ms = self._first_answer_ms()
        except BrokerUnavailable as error:
            self._log.warning("events are kept for longer", cause=str(error))
            return
        self._attribution.forget_before(min(first_ms, now_ms - self._window_ms) - GRACE_MS)

    # --- labels -------------------------------------------------------------------------------------------------

    def _label(self, events: Events) -> None:
        now_ms = self._clock.now_ms()
        if self._mark is None:
            self._mark = self._marked(events, now_ms)
        if self._mark is None or len(self._unread) or not events.has_read(self._mark.ends):
            return
        read_until_ms, self._mark = self._mark.at_ms, None
        for heap in self._waiting.values():
            while heap and heap[0].due_ms <= read_until_ms:
                due = heapq.heappop(heap)
                self._done.append(Emit(due.row, [self._record(due.row, due.result, now_ms)]))

    def _marked(self, events: Events, now_ms: int) -> _Mark | None:
        """None while nothing is due."""
        is_due = any(heap and heap[0].due_ms <= now_ms for heap in self._waiting.values())
        if not is_due or now_ms - self._checked_ms < CHECK_EVERY_MS:
            return None
        self._checked_ms = now_ms
        try:
            self._unvalidated_ms = self._topics.unvalidated_ms()
            behind_ms = 0 if self._unvalidated_ms is None else now_ms - self._unvalidated_ms
            if behind_ms > LATE_MS:
                self._log.warning("labels wait for events that are not validated", behind_s=behind_ms // 1000)
            return _Mark(min(now_ms, now_ms - behind_ms + GRACE_MS), events.present_ends())
        except BrokerUnavailable as error:
            self._log.warning("labels wait for the broker", cause=str(error))
            return None

    def _record(self, row: Rows, result: Mapping[str, Any], now_ms: int) -> OutRecords:
        shown = {item["item_id"] for item in result["items"]}
        followed = self._attribution.kinds(result["user_id"], shown, row.timestamps_ms[0])
        label = label_of(result, followed, now_ms)
        value = self._labels.encode({name: Constant(content) for name, content in label.items()}, 1)
        headers = h.cloud_event([label["request_id"]], LABELS.record_name, self._worker)
        return OutRecords(LABELS.name, [label["request_id"].encode()], value, headers)


def _arrived_ms(polled: Polled, row: int) -> int:
    """When the event came, by the broker. Its record here is younger: validation may have waited."""
    appended_ms = polled.timestamps_ms[row]
    raw = dict(polled.headers[row] or ()).get(h.ARRIVED_MS) or b""
    return min(int(raw), appended_ms) if _DIGITS.fullmatch(raw) else appended_ms
