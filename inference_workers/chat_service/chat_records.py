"""The records that a chat worker writes: results with their copies for callers, and parts of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from inference_workers.chat.engine import Finished
from inference_workers.chat_service.chat_answer import MOST_IN_A_RECORD, Answer
from inference_workers.models.unshipped import CHAT_MODEL
from inference_workers.result_records import log_record, origin_columns, with_replies
from schemas.chat_topics import CHAT, CHAT_RESULTS, CHAT_TOKENS
from schemas.codec import Encoder, SchemaIds
from schemas.encoding import Constant, Input
from schemas.generated import ChatToken, ChatTokens
from schemas.topics import PREDICTION_LOG
from schemas.vocabulary import Arm, FinishReason
from streams import headers as h
from streams.rows import OutRecords, Rows

REASONS = [reason for reason in FinishReason if reason not in (FinishReason.FAILED, FinishReason.BUSY)]  # of answers with a text
TOKEN_FIELDS = [field.name for field in fields(ChatTokens)]


class ChatRecords:
    """Raises SchemaRefused where the registry does not have a topic's schema."""

    def __init__(self, registry: SchemaIds, worker: str) -> None:
        self._worker = worker
        self._results, self._tokens = Encoder.of(CHAT_RESULTS, registry), Encoder.of(CHAT_TOKENS, registry)
        self._log = Encoder.of(PREDICTION_LOG, registry)

    def tokens(self, records: Sequence[ChatTokens]) -> OutRecords:
        """Keyed by request, which chooses the partition: all parts of an answer are in one, in order."""
        ids = [record.request_id for record in records]
        headers = h.cloud_event(ids, CHAT_TOKENS.record_name, self._worker)
        columns: dict[str, Input] = {name: [getattr(record, name) for record in records] for name in TOKEN_FIELDS}
        columns["tokens"] = [[_token(token) for token in record.tokens] for record in records]
        values = self._tokens.encode(columns, len(records))
        return OutRecords(CHAT_TOKENS.name, [one.encode() for one in ids], values, headers)

    def results(self, rows: Rows, **fields: Any) -> list[OutRecords]:
        """The same answer for all rows, with copies for their callers."""
        columns: dict[str, Input] = {**origin_columns(rows), **{name: Constant(value) for name, value in fields.items()}}
        return with_replies(CHAT_RESULTS, rows, self._results.encode(columns, len(rows)), self._worker)

    def ended(self, answer: Answer, ended: Finished, now_ms: int, running: int, published: bool) -> list[OutRecords]:
        """The last record of its tokens, with those that wait, and the results. running: how many were answered together. published:
        whether the last record is on the topic already."""
        records: list[OutRecords] = []
        while len(answer.waiting) > MOST_IN_A_RECORD:
            records.append(self.tokens([answer.tokens()]))
        record, served, cut = answer.tokens() if answer.waiting else answer.begun(), answer.served, answer.review.cut
        if not published:
            records.append(self.tokens([last(record, cut or None, "flagged" if cut else None, **answer.usage(ended))]))
            records.append(self.log(answer, ended, now_ms))
        expired = ended.reason == "expired" and not cut
        compute_ms = float(now_ms - answer.started_ms)
        use = {"name": served.name, "version": served.version, "arm": Arm.LIVE.value, "compute_ms": compute_ms}
        return records + self.results(
            answer.rows,
            status="expired" if expired else "ok",
            error_code="deadline" if expired else "flagged" if cut else None,
            error_message=(ended.message or "the deadline passed while it was answered") if expired else cut or None,
            batch_size=max(1, running),
            queue_ms=float(np.maximum(0, answer.started_ms - answer.rows.timestamps_ms[0])),
            compute_ms=compute_ms,
            models=[use],
            text=answer.text,
            attempt=answer.attempt,
            conversation_id=answer.input.conversation_id,
            asked=[asdict(message) for message in answer.input.asked],
            history_messages=answer.input.history_messages,
            **answer.usage(ended),
        )

    def log(self, answer: Answer, ended: Finished, now_ms: int) -> OutRecords:
        """The answer in the prediction log: how it ended as outputs, one column for each reason, and its measures as signals."""
        usage, served = answer.usage(ended), answer.served
        signals = {
            "prompt_tokens": [usage["prompt_tokens"]],
            "completion_tokens": [usage["completion_tokens"]],
            "truncated_messages": [usage["truncated_messages"]],
            "characters": [len(answer.text)],
            "mean_logprob": [ended.mean_logprob],
        }
        return log_record(
            self._log,
            self._worker,
            [answer.request_id],
            np.array([[usage["finish_reason"] == reason for reason in REASONS]], "<f4"),
            signals,
            task=CHAT.group,
            model=CHAT_MODEL,
            version=served.version,
            digest=served.digest,
            arm=Arm.LIVE.value,
            started_ms=answer.started_ms,
            compute_ms=float(now_ms - answer.started_ms),
            origin_topic=CHAT.topic.name,
            origin_partitions=np.array([answer.rows.origins[0][1]], "<i4").tobytes(),
            origin_offsets=np.array([answer.rows.origins[0][2]], "<i8").tobytes(),
            output_names=[reason.value for reason in REASONS],
        )

    def without_answer(
        self, rows: Rows, attempt: int, status: str, code: str, message: str, retry_after_ms: int = 0
    ) -> list[OutRecords]:
        """Results without an answer, and the ends of their tokens: whoever follows them waits no longer."""
        empty = [ChatTokens(request_id=request_id, attempt=attempt, sequence=0) for request_id in rows.request_ids]
        ends = [last(one, message, code, finish_reason=status, retry_after_ms=retry_after_ms) for one in empty]
        results = self.results(
            rows, status=status, error_code=code, error_message=message, retry_after_ms=retry_after_ms, attempt=attempt
        )
        return [self.tokens(ends), *results]


def last(record: ChatTokens, message: str | None, code: str | None, **usage: Any) -> ChatTokens:
    """The record as the last of its answer."""
    return replace(record, last=True, error_message=message, error_code=code, **usage)


def _token(token: ChatToken) -> dict[str, Any]:
    alternatives = [asdict(one) for one in token.alternatives]
    return {"token": token.token, "text": token.text, "logprob": token.logprob, "alternatives": alternatives}
