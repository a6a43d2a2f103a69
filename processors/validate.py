"""Events in as producers send them, out as everything behind may rely on: decodable, possible, on time, each once.

Whatever is not goes aside with its cause: impossible and repeated events to the dead-letter topic, late ones to
`late-events-v1`. Lateness is decided here and nowhere else, against the broker's timestamp of the record: what passes is
counted by Flink and by the batch alike, however long a partition stood still.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from processors.step import decoded
from schemas.codec import Decoder, Encoder, SchemaIds
from schemas.columns import Columns
from schemas.errors import ImpossibleEvent, RecordError, RepeatedEvent
from schemas.features import HOUR_MS, LATENESS_MS
from schemas.generated import UserEvent
from schemas.topics import LATE_EVENTS, USER_EVENTS, USER_EVENTS_VALID
from streams import headers as h
from streams.broker import Commit
from streams.metrics import Metrics
from streams.outcome import Emit, Outcome, Reject
from streams.rows import OutRecords, Place, Rows

KINDS = ("view", "cart", "purchase", "rating", "search")
AHEAD_MS = HOUR_MS  # clocks differ; what claims to be further ahead is wrong
MAX_ID_CHARS = 200
MAX_QUANTITY = 1_000_000
MAX_AMOUNT_CENTS = 10**12
_NOTHING: Mapping[str, int] = {}
RECORD = "user-event"


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


class Seen:
    """Event ids of the window, for each partition. Bounded by the window and by `max_ids` a partition, oldest out first."""

    def __init__(self, window_ms: int, max_ids: int = 5_000_000) -> None:
        self.window_ms, self._max_ids = window_ms, max_ids
        self._ids: dict[int, OrderedDict[str, int]] = {}

    def has(self, partition: int, event_id: str, at_ms: int) -> bool:
        """Whether the event came in this partition at most a window before at_ms."""
        seen_ms = self._ids.get(partition, _NOTHING).get(event_id)
        return seen_ms is not None and seen_ms > at_ms - self.window_ms

    def add(self, partition: int, event_ids: Iterable[tuple[str, int]]) -> None:
        """Ids with the broker's time of each."""
        ids = self._ids.setdefault(partition, OrderedDict())
        newest_ms = 0
        for event_id, at_ms in event_ids:
            ids.pop(event_id, None)
            ids[event_id] = at_ms
            newest_ms = max(newest_ms, at_ms)
        while ids and (len(ids) > self._max_ids or next(iter(ids.values())) <= newest_ms - self.window_ms):
            ids.popitem(last=False)

    def clear(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._ids.pop(partition, None)

    def __len__(self) -> int:
        return sum(map(len, self._ids.values()))


class Validation:
    """`process` and `answer` for `streams.step.BatchStep`, and the loop's state: which ids its own output holds.

    read_back: partitions and a number of milliseconds; the values of `user-events-valid-v1` that were committed since, each
    with its partition and time.
    """

    def __init__(self, ids: SchemaIds, worker: str, metrics: Metrics, seen: Seen, read_back: Any) -> None:
        self._worker, self._metrics, self._seen, self._read_back = worker, metrics, seen, read_back
        self._decoder = Decoder(RECORD, ids)
        self._encoders = {topic.name: Encoder(RECORD, topic.subject, ids) for topic in (USER_EVENTS_VALID, LATE_EVENTS)}

    # --- streams.state.State ------------------------------------------------------------------------------------

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        partitions = sorted({partition for topic, partition in positions if topic == USER_EVENTS.name})
        self._seen.clear(partitions)
        for partition, values, times_ms in self._read_back(partitions, self._seen.window_ms):
            columns, _ = self._decoder.decode(values)
            self._seen.add(partition, zip(_texts(columns, "event_id"), times_ms, strict=True))

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
        fresh: dict[int, dict[str, int]] = {}
        found = [UserEvent.from_dict(record) for record in columns.records()]
        for row, event in enumerate(found):
            partition, taken_ms = rows.places[row][1], rows.timestamps_ms[row]
            now_ms = taken_ms - _replay_offset_ms(rows.headers[row])
            error = self._refused(event, rows.keys[row], partition, taken_ms, now_ms, fresh)
            if error is not None:
                outcomes.append(Reject(rows.take([row]), error, "validate"))
            elif event.event_ms < now_ms - LATENESS_MS:
                late.append(row)
            else:
                kept.append(row)
                fresh.setdefault(partition, {})[event.event_id] = taken_ms
        done = rows.take(sorted((*kept, *late)))
        records = [
            *self._records(USER_EVENTS_VALID.name, rows, columns, kept), *self._records(LATE_EVENTS.name, rows, columns, late)
        ]  # fmt: skip
        if len(done):
            outcomes.append(Emit(done, records))
        self._metrics.add("late_events", len(late))
        for partition, ids in fresh.items():
            self._seen.add(partition, ids.items())
        return outcomes

    def _refused(
        self,
        event: UserEvent,
        key: bytes | None,
        partition: int,
        taken_ms: int,
        now_ms: int,
        fresh: Mapping[int, Mapping[str, int]],
    ) -> RecordError | None:
        cause = impossible(event, key, now_ms)
        if cause is not None:
            return ImpossibleEvent(cause)
        if event.event_id in fresh.get(partition, ()) or self._seen.has(partition, event.event_id, taken_ms):
            return RepeatedEvent(f"event {event.event_id} came before, within {self._seen.window_ms / 1000:.0f} s")
        return None

    def _records(self, topic: str, rows: Rows, columns: Columns, which: Sequence[int]) -> list[OutRecords]:
        """To the partition that each came in, so that an owner reads back its own and nobody else's."""
        if not which:
            return []
        chosen = rows.take(which)
        picked = columns if len(which) == columns.n else columns.take(which)
        values = self._encoders[topic].encode(picked.fields, len(which))
        headers = h.cloud_event(chosen.request_ids, RECORD, self._worker)
        return [OutRecords(topic, chosen.keys, values, headers, [partition for _, partition in chosen.places])]

    def answer(self, rows: Rows, status: str, code: str, message: str) -> list[OutRecords]:
        """Nobody waits for an event's result."""
        return []


def _replay_offset_ms(headers: Mapping[str, bytes]) -> int:
    raw = headers.get(h.REPLAY_OFFSET_MS)
    if raw is None:
        return 0
    try:
        return int(raw)
    except ValueError:
        return 0  # then it is judged by the broker's clock, as any other


def _texts(columns: Columns, name: str) -> list[str]:
    return [text or "" for text in columns.text(name)]
