"""Runs a pure function over single records as a processor: decode, call the function, encode its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from schemas.codec import Decoder, Encoder, SchemaIds
from schemas.columns import Columns
from schemas.topic_kinds import Consumption
from streams import headers as h
from streams.loop.outcome import Emit, Outcome, rejects
from streams.loop.processor import Processor
from streams.rows import OutRecords, Rows

# (record, key, broker timestamp in ms) to the fields of the result record, or None for no result
Function = Callable[[Mapping[str, Any], str, int], dict[str, Any] | None]


def decoded(decoder: Decoder, rows: Rows) -> tuple[Columns, Rows, list[Outcome]]:
    """The decoded columns of a batch, the rows to which they belong, and a Reject for each row that cannot be decoded."""
    columns, errors = decoder.decode(rows.values)
    return columns, rows.without(errors), rejects(rows, errors, "decode")


class RecordProcessor(Processor):
    """Calls a function on each record. key: the field of the result that becomes the result record's key.

    A result keeps the id of its record, so that a record that is read again produces the same result record."""

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
        answers = [self._function(*arguments) for arguments in zip(records, keys, rows.timestamps_ms, strict=True)]
        answered = [row for row, result in enumerate(answers) if result is not None]
        results = [result for result in answers if result is not None]
        return [*outcomes, Emit(rows, self._records(rows.take(answered), results) if answered else [])]

    def _records(self, rows: Rows, results: list[dict[str, Any]]) -> list[OutRecords]:
        values = self._encoder.encode({name: [result[name] for result in results] for name in results[0]}, len(results))
        headers = h.cloud_event(rows.request_ids, self._record, self._worker)
        return [OutRecords(self._results.name, [str(result[self._key]).encode() for result in results], values, headers)]
