"""The archive: writes validated events to Parquet files by date, each event in exactly one committed file (`streams/archived/`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from processors.features.validate import replay_offset_ms
from schemas.codec import Decoder, SchemaIds
from schemas.durations import DAY_MS
from schemas.errors import ImpossibleEvent
from schemas.topics import USER_EVENTS_VALID
from streams.archived.parquet_step import ParquetStep, Read
from streams.clock import Clock
from streams.loop.outcome import Reject, rejects
from streams.rows import Rows

EVENTS = "events"  # folder of the events in the lake
SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("user_id", pa.string()),
        ("kind", pa.string()),
        ("item_id", pa.string()),
        ("session_id", pa.string()),
        ("quantity", pa.int32()),
        ("amount_cents", pa.int64()),
        ("rating", pa.int32()),
        ("event_ms", pa.int64()),
        ("appended_ms", pa.int64()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("replay_offset_ms", pa.int64()),
    ]
)
_FIELDS = SCHEMA.names[:9]
_ANY_MS = 2**62
MOST_MS = 2**42  # the year 2109: each date is a folder


def archive(folder: Path, ids: SchemaIds, clock: Clock, age_s: float, rows: int = 40_000) -> ParquetStep:
    """The step of the archive's loop."""
    decoder = Decoder.of(USER_EVENTS_VALID, ids)
    return ParquetStep(folder, SCHEMA, lambda batch: read(decoder, batch), clock, age_s, rows)


def read(decoder: Decoder, batch: Rows) -> Read:
    columns, errors = decoder.decode(batch.values)
    ended = rejects(batch, errors, "decode")
    rows = batch.without(errors)
    times_ms = columns.numbers("event_ms") if columns.n else []
    good = [row for row, event_ms in enumerate(times_ms) if 0 <= event_ms < MOST_MS]
    if len(good) < len(rows):
        error = ImpossibleEvent("it happened at a time that no date stands for: validate lets none such pass")
        ended.append(Reject(rows.without(set(good)), error, "archive"))
        rows, columns = rows.take(good), columns.take(good)
    if not len(rows):
        return Read(ended, rows, {}, ())
    records = columns.records()
    events: dict[str, list[Any]] = {name: [record[name] for record in records] for name in _FIELDS}
    behind = {"replay_offset_ms": list(map(_behind_ms, rows.headers))}
    days = [event_ms // DAY_MS for event_ms in events["event_ms"]]
    names = {day: f"dt={np.datetime64(day, 'D')}" for day in set(days)}
    return Read(ended, rows, {**events, **behind}, [names[day] for day in days])


def _behind_ms(headers: Mapping[str, bytes]) -> int:
    """The replay offset as validate read it; an invalid one counts as absent."""
    try:
        return replay_offset_ms(headers, _ANY_MS)
    except ImpossibleEvent:
        return 0
