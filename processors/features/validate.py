"""Events in as producers send them, out as everything behind may rely on: decodable, possible, on time, each once.

Whatever is not goes aside with its cause: impossible and repeated events to the dead-letter topic, late ones to
`late-events-v1`. Lateness is decided here and nowhere else, against the broker's timestamp of the record: what passes is
counted by Flink and by the batch alike, however long a partition stood still.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from processors.features.seen import READ_BACK, Seen
from schemas.codec import Decoder, Encoder, SchemaIds
from schemas.columns import Columns
from schemas.durations import DAY_MS
from schemas.errors import ImpossibleEvent, RecordError, RepeatedEvent
from schemas.features import AHEAD_MS, LATENESS_MS
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
MAX_ID_CHARS = 200
MAX_QUANTITY = 1_000_000
MAX_AMOUNT_CENTS = 10**12
LONGEST_REPLAY_MS = 366 * DAY_MS
_OFFSET = re.compile(rb"[0-9]{1,15}")
RECORD = "user-event"
# Of each partition, from what was committed so long before the record at this offset: values, and the broker's time of each.
ReadBack = Callable[[Mapping[int, int], int], Iterator[tuple[int, list[bytes | None], list[int]]]]


def impossible(event: UserEvent, key: bytes | None, now_ms: int) -> str | None:
    """Why the event cannot be, in words; None where it can. now_ms: when the broker took it."""
    for name in ("event_id", "user_id", "item_id", "session_id"):
        value = getattr(event, name)
        if value is not None and not 0 < len(value) <= MAX_ID_CHARS:
            return f"{name} has {len(value)} characters; 1 to {MAX_ID_CHARS} are taken"
    if key != event.user_id.encode():
        return f"the key is {(key or b'').decode(errors='replace')[:40]!r}, not the user's id: its order and its features would be lost"
    if event.kind not in KINDS:
        return f"kind {event.kind[:40]!r} is none of {', '.join(KINDS)}"
    if event.kind in ("view", "cart", "purchase", "rating") and event.item_id is None:
        return f"a {event.kind} names no item"
    if not 1 <= event.quantity <= MAX_QUANTITY:
        return f"a quantity of {event.quantity}"
    if event.amount_cents is not None and not 0 <= event.amount_cents <= MAX_AMOUNT_CENTS:
        return f"an amount of {event.amount_cents} cents"
    if event.kind == "purchase" and event.amount_cents is None:
        return "a purchase without an amount"
    if (event.kind == "rating") != (event.rating is not None):
        return f"a {event.kind} {'without' if event.rating is None else 'with'} stars"
    if event.rating is not None and not 1 <= event.rating <= 5:
        return f"{event.rating} stars; 1 to 5 are taken"
    if event.event_ms > now_ms + AHEAD_MS:
        return f"it happens {(event.event_ms - now_ms) / 1000:.0f} s after the broker took it"
    if event.event_ms <= 0:
        return f"it happened at {event.event_ms} ms of the epoch"
    return None


def replay_offset_ms(headers: Mapping[str, bytes], longest_ms: int) -> int:
    """How far a replayed event's clock is behind the broker's: it is judged as if the broker had taken it so much earlier. Never
    ahead, and never by more than longest_ms: anybody may write the header. Raises ImpossibleEvent."""
    raw = headers.get(h.REPLAY_OFFSET_MS)
    if raw is None:
        return 0
    if not _OFFSET.fullmatch(raw) or int(raw) > longest_ms:
        shown = raw[:40].decode(errors="replace")
        raise ImpossibleEvent(
            f"the header {h.REPLAY_OFFSET_MS} is {shown!r}: milliseconds from 0 to {longest_ms} are taken (MILLRACE_MAX_REPLAY_DAYS)"
        )
    return int(raw)


class Validation(Processor):
    """`process` and `answer` for `streams.loop.step.BatchStep`, and the loop's state: which ids its own output holds."""

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
        """Partitions that we hold already need nothing: what an abort leaves in the window does no harm (`processors/features/seen.py`)."""
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
            self._seen.clear(new)  # a part of the window is none
            raise

    def forget(self, places: Iterable[Place]) -> None:
        self._seen.clear(partition for _, partition in places)

    # --- the step -----------------------------------------------------------------------------------------------

    def process(self, rows: Rows) -> list[Outcome]:
        """Pure until its last lines: a batch that fails half-way leaves no id behind, and its halves are tried again."""
        columns, rows, outcomes = decoded(self._decoder, rows)
        if not len(rows):
            return outcomes
        kept: list[int] = []
        late: list[int] = []
        offsets_ms: dict[int, int] = {}
        fresh: dict[int, dict[str, tuple[int, int]]] = {}
        found = [UserEvent.from_dict(record) for record in columns.records()]
        for row, event in enumerate(found):
            partition, at = rows.places[row][1], (rows.timestamps_ms[row], rows.offsets[row])
            try:
                offsets_ms[row] = replay_offset_ms(rows.headers[row], self._longest_replay_ms)
                now_ms = at[0] - offsets_ms[row]
                self._look(event, rows.keys[row], now_ms)
                self._compare(event.event_id, partition, *at, fresh)
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

    def _look(self, event: UserEvent, key: bytes | None, now_ms: int) -> None:
        """Raises ImpossibleEvent."""
        cause = impossible(event, key, now_ms)
        if cause is not None:
            raise ImpossibleEvent(cause)

    def _compare(
        self, event_id: str, partition: int, taken_ms: int, offset: int, fresh: Mapping[int, Mapping[str, tuple[int, int]]]
    ) -> None:
        """Raises RepeatedEvent."""
        beside = fresh.get(partition, {}).get(event_id)
        in_batch = beside is not None and taken_ms - beside[0] < self._seen.window_ms
        if in_batch or self._seen.has(partition, event_id, taken_ms, offset):
            raise RepeatedEvent(f"event {event_id} came before, within {self._seen.window_ms / 1000:.0f} s")

    def _records(
        self, topic: str, rows: Rows, columns: Columns, which: Sequence[int], offsets_ms: Mapping[int, int]
    ) -> list[OutRecords]:
        """To the partition that each came in, so that an owner reads back its own and nobody else's. offsets_ms: how far the clock
        of each row is behind; the archive tells by it when a replayed event would have come."""
        if not which:
            return []
        chosen = rows.take(which)
        picked = columns if len(which) == columns.n else columns.take(which)
        values = self._encoders[topic].encode(picked.fields, len(which))
        headers = h.cloud_event(chosen.request_ids, RECORD, self._worker)
        for row, header in zip(which, headers, strict=True):
            if offsets_ms[row]:
                header.append((h.REPLAY_OFFSET_MS, str(offsets_ms[row]).encode()))
        return [OutRecords(topic, chosen.keys, values, headers, [partition for _, partition in chosen.places])]


def _texts(columns: Columns, name: str) -> list[str]:
    return [text or "" for text in columns.text(name)]
