"""The loop's part of attribution: an answer waits in flight until its window has ended, then it gets its label.

Its offset is committed together with its label. So a process that dies leaves nothing behind: the next one reads the answers that
have no label yet, and the events since the first of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from processors.recommendation.attribution import Attribution, label_of
from schemas.codec import Decoder, Encoder, SchemaIds
from schemas.encoding import Constant
from schemas.errors import RetryLater
from schemas.topics import LABELS, RECOMMENDATION_RESULTS, USER_EVENTS_VALID
from streams import headers as h
from streams.broker import Broadcast, Commit
from streams.clock import Clock
from streams.loop.outcome import Emit, Outcome, rejects
from streams.loop.step import Step
from streams.readable import Readable
from streams.rows import OutRecords, Place, Polled, Rows

GRACE_MS = 3_000  # from an event's arrival to when it is valid
LATE_MS = 60_000  # past its window an answer may wait so long before its partition counts as standing still
FORGET_EVERY_MS = 10_000
# Opens the events since the first answer that has no label yet, whose offset is given for each place. Raises BrokerUnavailable.
ReadEvents = Callable[[Mapping[Place, int]], Broadcast]


class AttributionStep(Step):
    """window_ms: how long after an answer an event counts."""

    def __init__(self, ids: SchemaIds, worker: str, clock: Clock, read_events: ReadEvents, window_ms: int) -> None:
        self._clock, self._worker, self._read_events, self._window_ms = clock, worker, read_events, window_ms
        self._results, self._labels = Decoder.of(RECOMMENDATION_RESULTS, ids), Encoder.of(LABELS, ids)
        self._readable = Readable(USER_EVENTS_VALID, ids, dict)
        self._events: Broadcast | None = None
        self._log = structlog.get_logger()
        self.forget(())

    # --- state beside the offsets --------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        self.forget(())
        self._events = self._read_events({place: commit.offset for place, commit in positions.items()})

    def forget(self, places: Iterable[Place]) -> None:
        """Everything: what was in flight is read again, whichever partitions left."""
        self.close()
        self._attribution = Attribution(self._window_ms)
        self._waiting: deque[tuple[Rows, dict[str, Any]]] = deque()
        self._done: list[Outcome] = []
        self._unread = Polled()  # events that wait for the registry
        self._forgot_ms = 0

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    # --- batches -------------------------------------------------------------------------------------------------------

    def submit(self, batch: Rows) -> None:
        columns, errors = self._results.decode(batch.values)
        self._done += rejects(batch, errors, "decode")
        rows = batch.without(errors)
        for number, result in enumerate(columns.records()):
            row = rows.slice(number, number + 1)
            if result["status"] == "ok" and result["user_id"] and result["items"]:
                self._waiting.append((row, result))
            else:
                self._done.append(Emit(row))

    def completed(self, wait_s: float) -> list[Outcome]:
        if self._caught_up():
            self._label()
        done, self._done = self._done, []
        return done

    def busy(self) -> bool:
        """Always False: answers that wait for their window do not keep the loop from reading."""
        return False

    def keeps(self, place: Place) -> bool:
        now_ms = self._clock.now_ms()
        oldest_ms = min((row.timestamps_ms[0] for row, _ in self._waiting if row.places[0] == place), default=None)
        return oldest_ms is not None and now_ms < oldest_ms + self._window_ms + GRACE_MS + LATE_MS

    def takes_long(self, batch: Rows) -> bool:
        return False

    def working_since_s(self) -> float | None:
        return None

    # --- labels -------------------------------------------------------------------------------------------------

    def _caught_up(self) -> bool:
        """Take new events; whether there are no more."""
        if self._events is None:
            return False
        polled = self._events.poll()
        self._unread.extend(polled)
        try:
            for row, event in self._readable.rows(self._unread) if len(self._unread) else ():
                self._attribution.add(event, self._unread.timestamps_ms[row])
        except RetryLater as error:
            self._log.warning("events wait for the registry", cause=str(error))
            return False
        self._unread = Polled()
        return not len(polled)

    def _label(self) -> None:
        now_ms = self._clock.now_ms()
        due: list[tuple[Rows, dict[str, Any]]] = []
        waiting: deque[tuple[Rows, dict[str, Any]]] = deque()
        for row, result in self._waiting:  # partitions take turns, so their times do not rise throughout
            is_due = now_ms >= row.timestamps_ms[0] + self._window_ms + GRACE_MS
            (due if is_due else waiting).append((row, result))
        if due:
            self._waiting = waiting
            self._done += [Emit(row, [self._record(row, result, now_ms)]) for row, result in due]
        if now_ms - self._forgot_ms >= FORGET_EVERY_MS:
            self._forgot_ms = now_ms
            oldest_ms = min((row.timestamps_ms[0] for row, _ in waiting), default=now_ms)
            self._attribution.forget_before(min(oldest_ms, now_ms - self._window_ms - GRACE_MS))

    def _record(self, row: Rows, result: Mapping[str, Any], now_ms: int) -> OutRecords:
        shown = {item["item_id"] for item in result["items"]}
        followed = self._attribution.kinds(result["user_id"], shown, row.timestamps_ms[0])
        label = label_of(result, followed, now_ms)
        value = self._labels.encode({name: Constant(content) for name, content in label.items()}, 1)
        headers = h.cloud_event([label["request_id"]], LABELS.record_name, self._worker)
        return OutRecords(LABELS.name, [label["request_id"].encode()], value, headers)
