"""The records that a chat worker writes: results with their copies for callers, and parts of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from inference_workers.result_records import MAX_TRACEPARENT_BYTES, origin_columns, reply_partition
from schemas.chat_topics import CHAT_RESULTS, CHAT_TOKENS
from schemas.codec import Encoder, SchemaIds
from schemas.encoding import Constant, Input
from schemas.generated import ChatToken, ChatTokens
from schemas.topics import REPLIES
from streams import headers as h
from streams.rows import OutRecords, Rows

TOKEN_FIELDS = [field.name for field in fields(ChatTokens)]


class ChatRecords:
    """Raises SchemaRefused where the registry does not have a topic's schema."""

    def __init__(self, registry: SchemaIds, worker: str) -> None:
        self._worker = worker
        self._results, self._tokens = Encoder.of(CHAT_RESULTS, registry), Encoder.of(CHAT_TOKENS, registry)

    def tokens(self, records: Sequence[ChatTokens]) -> OutRecords:
        """Keyed by request, which chooses the partition: all parts of an answer are in one, in order."""
        ids = [record.request_id for record in records]
        headers = h.cloud_event(ids, CHAT_TOKENS.record_name, self._worker)
        columns: dict[str, Input] = {name: [getattr(record, name) for record in records] for name in TOKEN_FIELDS}
        columns["tokens"] = [[_token(token) for token in record.tokens] for record in records]
        values = self._tokens.encode(columns, len(records))
        return OutRecords(CHAT_TOKENS.name, [one.encode() for one in ids], values, headers)

    def results(self, rows: Rows, **fields: Any) -> list[OutRecords]:
        """The same answer for all rows: results, and a copy of each for a caller who named a partition of its own."""
        columns: dict[str, Input] = {**origin_columns(rows), **{name: Constant(value) for name, value in fields.items()}}
        values = self._results.encode(columns, len(rows))
        headers = h.cloud_event(rows.request_ids, CHAT_RESULTS.record_name, self._worker)
        replies: list[tuple[int, int]] = []
        for i, named in enumerate(rows.headers):
            if len(named.get(h.TRACEPARENT, b"")) in range(1, MAX_TRACEPARENT_BYTES):
                headers[i].append((h.TRACEPARENT, named[h.TRACEPARENT]))
            partition = reply_partition(named.get(h.REPLY_TO, b""))
            if partition is not None:
                replies.append((i, partition))
        records = [OutRecords(CHAT_RESULTS.name, rows.keys, values, headers)]
        if replies:
            at = [i for i, _ in replies]
            records.append(
                OutRecords(
                    REPLIES.name,
                    [rows.keys[i] for i in at],
                    [values[i] for i in at],
                    [headers[i] for i in at],
                    [partition for _, partition in replies],
                )
            )
        return records


def _token(token: ChatToken) -> dict[str, Any]:
    alternatives = [asdict(one) for one in token.alternatives]
    return {"token": token.token, "text": token.text, "logprob": token.logprob, "alternatives": alternatives}


def queue_ms(rows: Rows, started_ms: int) -> float:
    return float(np.maximum(0, started_ms - rows.timestamps_ms[0]))
