"""A pure function over records as a processor: decode, call it on each, encode what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from schemas.codec import Decoder, Encoder, SchemaIds
from schemas.columns import Columns
from schemas.topic_kinds import Consumption
from streams import headers as h
from streams.loop.outcome import Emit, Outcome, Reject
from streams.loop.processor import Processor
from streams.rows import OutRecords, Rows

# a record, its key and its broker timestamp: the result record's fields, or None where nothing is to be said
Function = Callable[[Mapping[str, Any], str, int], dict[str, Any] | None]


def decoded(decoder: Decoder, rows: Rows) -> tuple[Columns, Rows, list[Outcome]]:
    """What a batch says, the rows that say it, and the end of each row that does not decode."""
    columns, errors = decoder.decode(rows.values)
    if not errors:
        return columns, rows, []
    rejected: list[Outcome] = [Reject(rows.take([row]), error, "decode") for row, error in errors.items()]
    return columns, rows.take([row for row in range(len(rows)) if row not in errors]), rejected


class RecordProcessor(Processor):
    """Calls a function on each record. key: the field of the result that is its key.

    The same origin gives the same result record, id included: it keeps the request's."""

    def __init__(self, consumption: Consumption, function: Function, key: str, registry: SchemaIds, worker: str) -> None:
        assert consumption.results is not None and consumption.results.record is not None
        self._results, self._function, self._key, self._worker = consumption.results, function, key, worker
        self._record: str = consumption.results.record_name
        self._decoder = Decoder.of(consumption.topic, registry)
        self._encoder = Encoder(self._record, self._results.subject, registry)

    def process(self, rows: Rows) -> list[Outcome]:
        columns, rows, outcomes = decoded(self._decoder, rows)
        if not len(rows):
            return outcomes
        keys = [(key or b"").decode(errors="replace") for key in rows.keys]
        records = columns.records()
        made = [self._function(*given) for given in zip(records, keys, rows.timestamps_ms, strict=True)]
        said = [row for row, result in enumerate(made) if result is not None]
        results = [result for result in made if result is not None]
        return [*outcomes, Emit(rows, self._records(rows.take(said), results) if said else [])]

    def _records(self, rows: Rows, results: list[dict[str, Any]]) -> list[OutRecords]:
        values = self._encoder.encode({name: [result[name] for result in results] for name in results[0]}, len(results))
        headers = h.cloud_event(rows.request_ids, self._record, self._worker)
        return [OutRecords(self._results.name, [str(result[self._key]).encode() for result in results], values, headers)]
