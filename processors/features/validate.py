"""Validates user events: an event passes if it can be decoded, is possible, in time, and unique.

Impossible and repeated events go to the dead-letter topic with their cause, late events to `late-events-v1`. Only this module
decides lateness, by the broker's timestamp of the record. So Flink and batch jobs count the same events, even if a partition
stood still for a long time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from processors.features.seen import READ_BACK, Seen
from schemas.codec import Decoder, Encoder, SchemaIds
from schemas.columns import Columns
from schemas.durations import DAY_MS
from schemas.errors import ImpossibleEvent, RecordError, RepeatedEvent
from schemas.features import AHEAD_MS, LATENESS_MS, MAX_ID_CHARS
from schemas.generated import UserEvent
from schemas.topics import LATE_EVENTS, USER_EVENTS, USER_EVENTS_VALID
from streams import headers as h
from streams.broker import Commit
from streams.loop.outcome import Emit, Outcome, Reject
from streams.loop.processor import Processor
from streams.metrics import Metrics
from streams.process.record_processor import decoded
from streams.rows import OutRecords, Place, Rows

KINDS = ("view", "cart", "purchase", "rating", "search")
MAX_QUANTITY = 1_000_000
MAX_AMOUNT_CENTS = 10**12
LONGEST_REPLAY_MS = 366 * DAY_MS
_OFFSET = re.compile(rb"[0-9]{1,15}")
RECORD = "user-event"
# (offsets by partition, window in ms) to our output in the window before each offset: (partition, values, broker times in ms)
ReadBack = Callable[[Mapping[int, int], int], Iterator[tuple[int, list[bytes | None], list[int]]]]


def impossible(event: UserEvent, key: bytes | None, now_ms: int) -> str | None:
    """Why the event is impossible, as a sentence; None if it is possible. now_ms: when it reached the broker."""
    for name in ("event_id", "user_id", "item_id", "session_id"):
        value = getattr(event, name)
        if value is not None and not 0 < len(value) <= MAX_ID_CHARS:
            return f"{name} has {len(value)} characters; it must have 1 to {MAX_ID_CHARS}"
    if key != event.user_id.encode():
        return f"the key is {(key or b'').decode(errors='replace')[:40]!r}, not the user's id, so the order of the user's events would be lost"
    if event.kind not in KINDS:
        return f"kind {event.kind[:40]!r} is unknown; kinds are {', '.join(KINDS)}"
    if event.kind in ("view", "cart", "purchase", "rating") and event.item_id is None:
        return f"a {event.kind} needs an item_id"
    if not 1 <= event.quantity <= MAX_QUANTITY:
        return f"the quantity is {event.quantity}; it must be from 1 to {MAX_QUANTITY}"
    if event.amount_cents is not None and not 0 <= event.amount_cents <= MAX_AMOUNT_CENTS:
        return f"the amount is {event.amount_cents} cents; it must be from 0 to {MAX_AMOUNT_CENTS}"
    if event.kind == "purchase" and event.amount_cents is None:
        return "a purchase needs an amount"
    if (event.kind == "rating") != (event.rating is not None):
        return "a rating needs stars" if event.rating is None else f"a {event.kind} must not have stars"
    if event.rating is not None and not 1 <= event.rating <= 5:
        return f"the rating is {event.rating} stars; it must be from 1 to 5"
    if event.event_ms > now_ms + AHEAD_MS:
        return f"it happens {(event.event_ms - now_ms) / 1000:.0f} s after it reached the broker"
    if event.event_ms <= 0:
        return f"it happened at {event.event_ms} ms of the epoch"
    return None


def replay_offset_ms(headers: Mapping[str, bytes], longest_ms: int) -> int:
    """How far a replayed event's clock is behind the broker's, in ms: the event is judged as if it had reached the broker that
    much earlier. The value is from 0 to longest_ms, because any client may write the header. Raises ImpossibleEvent otherwise."""
    raw = headers.get(h.REPLAY_OFFSET_MS)
    if raw is None:
        return 0
    if not _OFFSET.fullmatch(raw) or int(raw) > longest_ms:
        shown = raw[:40].decode(errors="replace")
        raise ImpossibleEvent(
            f"the header {h.REPLAY_OFFSET_MS} is {shown!r}; it must be from 0 to {longest_ms} ms (MILLRACE_MAX_REPLAY_DAYS)"
        )
    return int(raw)


class Validation(Processor):
    """Validates batches of events. Besides the offsets, its state is the set of ids in its own output."""

    def __init__(
        self,
        registry: SchemaIds,
        worker: str,
        metrics: Metrics,
        seen: Seen,
        read_back: ReadBack,
        longest_replay_ms: int = LONGEST_REPLAY_MS,
    ) -> None:
        self._worker, self._metrics, self._seen, self._read_back = worker, metrics, seen, read_back
        self._longest_replay_ms = longest_replay_ms
        self._decoder, self._own = Decoder.of(USER_EVENTS, registry), Decoder.of(USER_EVENTS_VALID, registry)
        self._encoders = {topic.name: Encoder(RECORD, topic.subject, registry) for topic in (USER_EVENTS_VALID, LATE_EVENTS)}

    # --- state beside the offsets --------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        """Reads ids back for new partitions only, because ids of an aborted batch do no harm (`processors/features/seen.py`)."""
        new = {
            partition: commit.offset
            for (topic, partition), commit in positions.items()
            if topic == USER_EVENTS.name and not self._seen.knows(partition)
        }
        for partition in new:
            self._seen.add(partition, ())
        try:
            for partition, values, times_ms in self._read_back(new, self._seen.window_ms) if new else ():
                columns, errors = self._own.decode(values)
                times = [at_ms for row, at_ms in enumerate(times_ms) if row not in errors]
                self._seen.add(partition, ((i, ms, READ_BACK) for i, ms in zip(_texts(columns, "event_id"), times, strict=True)))
        except BaseException:
            self._seen.clear(new)  # an incomplete window is not enough
            raise

    def forget(self, places: Iterable[Place]) -> None:
        self._seen.clear(partition for _, partition in places)

    # --- the step -----------------------------------------------------------------------------------------------

    def process(self, rows: Rows) -> list[Outcome]:
        """Changes no state until the last lines: a batch that fails half-way adds no ids, so its halves can be tried again."""
        columns, rows, outcomes = decoded(self._decoder, rows)
        if not len(rows):
            return outcomes
        kept: list[int] = []
        late: list[int] = []
        offsets_ms: dict[int, int] = {}
        fresh: dict[int, dict[str, tuple[int, int]]] = {}
        for row, event in enumerate(map(UserEvent.from_dict, columns.records())):
            partition, at = rows.places[row][1], (rows.timestamps_ms[row], rows.offsets[row])
            try:
                offsets_ms[row] = replay_offset_ms(rows.headers[row], self._longest_replay_ms)
                now_ms = at[0] - offsets_ms[row]
                self._check_possible(event, rows.keys[row], now_ms)
                self._check_unique(event.event_id, partition, *at, fresh)
            except RecordError as error:
                outcomes.append(Reject(rows.take([row]), error, "validate"))
                continue
            if event.event_ms < now_ms - LATENESS_MS:
                late.append(row)
            else:
                kept.append(row)
                fresh.setdefault(partition, {})[event.event_id] = at
        done = rows.take(sorted((*kept, *late)))
        records = [
            *self._records(USER_EVENTS_VALID.name, rows, columns, kept, offsets_ms),
            *self._records(LATE_EVENTS.name, rows, columns, late, offsets_ms),
        ]
        if len(done):
            outcomes.append(Emit(done, records))
        self._metrics.add("late_events", len(late))
        for partition, ids in fresh.items():
            self._seen.add(partition, ((event_id, *at) for event_id, at in ids.items()))
        return outcomes

    def _check_possible(self, event: UserEvent, key: bytes | None, now_ms: int) -> None:
        """Raises ImpossibleEvent."""
        cause = impossible(event, key, now_ms)
        if cause is not None:
            raise ImpossibleEvent(cause)

    def _check_unique(
        self, event_id: str, partition: int, taken_ms: int, offset: int, fresh: Mapping[int, Mapping[str, tuple[int, int]]]
    ) -> None:
        """Raises RepeatedEvent."""
        earlier = fresh.get(partition, {}).get(event_id)
        in_batch = earlier is not None and taken_ms - earlier[0] < self._seen.window_ms
        if in_batch or self._seen.has(partition, event_id, taken_ms, offset):
            raise RepeatedEvent(f"event {event_id} came before, less than {self._seen.window_ms / 1000:.0f} s ago")

    def _records(
        self, topic: str, rows: Rows, columns: Columns, which: Sequence[int], offsets_ms: Mapping[int, int]
    ) -> list[OutRecords]:
        """Writes each event to the partition number that it came from, so that the owner of a partition reads back its own
        output. offsets_ms: how far each row's clock is behind the broker's; the archive needs it for replayed events."""
        if not which:
            return []
        chosen = rows.take(which)
        picked = columns if len(which) == columns.n else columns.take(which)
        values = self._encoders[topic].encode(picked.fields, len(which))
        headers = h.cloud_event(chosen.request_ids, RECORD, self._worker)
        for row, header in zip(which, headers, strict=True):
            header.append((h.ARRIVED_MS, str(rows.timestamps_ms[row]).encode()))
            if offsets_ms[row]:
                header.append((h.REPLAY_OFFSET_MS, str(offsets_ms[row]).encode()))
        return [OutRecords(topic, chosen.keys, values, headers, [partition for _, partition in chosen.places])]


def _texts(columns: Columns, name: str) -> list[str]:
    return [text or "" for text in columns.text(name)]
