"""The records of a batch that was answered: results, copies for callers, shadow results and the prediction log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.networks.embedding import reduced
from inference_workers.task import Prediction, Task, Use
from processors.features.enrich import Enriched, logged, named
from schemas.codec import Encoder, SchemaIds
from schemas.encoding import Constant, Input
from schemas.errors import RecordError, RecordTooLarge
from schemas.topic_kinds import Topic
from schemas.topics import PREDICTION_LOG, REPLIES, SHADOW_RESULTS
from streams import headers as h
from streams.rows import OutRecords, Rows

MAX_TRACEPARENT_BYTES = 256  # W3C's has 55


class ResultRecords:
    """Encodes what one worker answers. Raises SchemaRefused where the registry does not have a topic's schema."""

    def __init__(self, task: Task, registry: SchemaIds, worker: str) -> None:
        self._task, self._worker = task, worker
        self._record = task.results.record_name
        self._encoder = Encoder(self._record, task.results.subject, registry)
        self._log_encoder = Encoder.of(PREDICTION_LOG, registry)

    def encode(self, columns: Mapping[str, Input], n: int) -> list[bytes]:
        """Values of n result records. columns: arrays (n,), lists of n values, or constants."""
        return self._encoder.encode(columns, n)

    def results(self, rows: Rows, values: list[bytes]) -> list[OutRecords]:
        """The results, and a copy of each for a caller who named a partition of its own."""
        return with_replies(self._task.results, rows, values, self._worker)

    def shadow_results(self, rows: Rows, values: list[bytes]) -> OutRecords:
        """Results of a shadow, keyed by request: on a topic of their own, never for a caller."""
        headers = h.cloud_event(rows.request_ids, self._record, self._worker)
        keys: list[bytes | None] = [request_id.encode() for request_id in rows.request_ids]
        return OutRecords(SHADOW_RESULTS.name, keys, values, headers)

    def log(self, rows: Rows, origin: Mapping[str, Input], enriched: Enriched, use: Use, started_ms: int) -> OutRecords:
        """One record of the prediction log: this batch through one model, its arrays as bytes with their dtype and shape. origin: see
        `origin_columns`."""
        outputs, folder, which = use.outputs, use.version.folder, use.rows
        partitions, offsets = np.asarray(origin["origin_partition"], "<i4"), np.asarray(origin["origin_offset"], "<i8")
        request_ids = rows.request_ids
        if which is not None:
            partitions, offsets, request_ids = partitions[which], offsets[which], [request_ids[row] for row in which]
        return log_record(
            self._log_encoder,
            self._worker,
            request_ids,
            outputs,
            use.signals,
            task=self._task.name,
            model=folder.name,
            version=folder.version,
            digest=folder.digest,
            arm=use.version.arm,
            started_ms=started_ms,
            compute_ms=use.compute_ms,
            origin_topic=self._task.consumption.topic.name,
            origin_partitions=partitions.tobytes(),
            origin_offsets=offsets.tobytes(),
            parts=list(use.parts),
            output_names=list(use.names),
            thresholds=b"" if use.thresholds is None else np.asarray(use.thresholds, "<f4").tobytes(),
            features=logged(enriched, which),
            embeddings=b"" if use.embedding is None else reduced(use.embedding).tobytes(),
        )


def log_record(
    encoder: Encoder,
    worker: str,
    request_ids: Sequence[str],
    outputs: npt.NDArray[Any],
    signals: Mapping[str, npt.ArrayLike],
    **fields: Any,
) -> OutRecords:
    """One record of the prediction log, its arrays as bytes with their dtype and shape. outputs: of any dtype, (entries, …). signals:
    each with a number for each entry. fields: the record's others."""
    given = {
        "worker": worker,
        "request_ids": list(request_ids),
        "outputs": np.ascontiguousarray(outputs).tobytes(),
        "outputs_dtype": outputs.dtype.str,
        "outputs_shape": list(outputs.shape),
        "signals": [{"name": name, "values": np.asarray(values, "<f4").tobytes()} for name, values in signals.items()],
        **fields,
    }
    columns: dict[str, Input] = {name: Constant(value) for name, value in given.items()}
    headers = h.cloud_event(list(request_ids[:1]), PREDICTION_LOG.record_name, worker)
    return OutRecords(PREDICTION_LOG.name, [worker.encode()], [encoder.encode(columns, 1)[0]], headers)


def with_replies(topic: Topic[Any], rows: Rows, values: list[bytes], worker: str) -> list[OutRecords]:
    """The results, one for each row, and a copy of each for a caller who named a partition of its own."""
    headers = h.cloud_event(rows.request_ids, topic.record_name, worker)
    replies: list[tuple[int, int]] = []
    for i in [i for i, names in enumerate(rows.headers) if h.REPLY_TO in names or h.TRACEPARENT in names]:
        request_headers = rows.headers[i]
        if len(request_headers.get(h.TRACEPARENT, b"")) in range(1, MAX_TRACEPARENT_BYTES):
            headers[i].append((h.TRACEPARENT, request_headers[h.TRACEPARENT]))
        partition = reply_partition(request_headers.get(h.REPLY_TO, b""))
        if partition is not None:
            replies.append((i, partition))
    records = [OutRecords(topic.name, rows.keys, values, headers)]
    if replies:
        answered = [i for i, _ in replies]
        records.append(
            OutRecords(
                REPLIES.name,
                [rows.keys[i] for i in answered],
                [values[i] for i in answered],
                [headers[i] for i in answered],
                [partition for _, partition in replies],
            )
        )
    return records


def origin_columns(rows: Rows) -> dict[str, Input]:
    """The columns of n results that say which requests they answer; partitions, offsets and redrives are int64 (n,)."""
    topics, *numbers = zip(*rows.origins, strict=True)
    partitions, offsets = np.array(numbers, np.int64)
    return {
        "request_id": rows.request_ids,
        "origin_topic": Constant(topics[0]) if topics.count(topics[0]) == len(topics) else list(topics),
        "origin_partition": partitions,
        "origin_offset": offsets,
        "redrive": np.array(rows.redrives, np.int64),
    }


def result_columns(
    rows: Rows,
    origin: Mapping[str, Input],
    enriched: Enriched,
    prediction: Prediction,
    queue_ms: npt.NDArray[np.float32],
    compute_ms: float,
) -> Mapping[str, Input]:
    """All columns of the result records of n requests. queue_ms: float32 (n,)."""
    return {
        **origin,
        "status": Constant("ok"),
        "batch_size": Constant(len(rows)),
        "queue_ms": queue_ms,
        "compute_ms": Constant(compute_ms),
        "models": _models_of(len(rows), prediction.uses),
        **({"features": named(enriched)} if enriched.needs else {}),
        **prediction.results,
    }


def _models_of(n: int, uses: Sequence[Use]) -> Input:
    """Which models took part in each result: the same for all if each model saw every request."""
    models = [
        {
            "name": use.version.folder.name,
            "version": use.version.folder.version,
            "arm": use.version.arm,
            "compute_ms": use.compute_ms,
        }
        for use in uses
    ]
    if all(use.rows is None for use in uses):
        return Constant(models)
    seen = [range(n) if use.rows is None else set(use.rows) for use in uses]
    return [[model for model, rows in zip(models, seen, strict=True) if row in rows] for row in range(n)]


def reply_partition(raw: bytes) -> int | None:
    """The partition in `replies-v1/N`; None for any other topic, so that callers cannot choose where a worker writes."""
    topic, _, number = raw.partition(b"/")
    return h.whole(number, 0, REPLIES.partitions - 1) if topic == REPLIES.name.encode() else None


def too_large(values: Sequence[bytes], max_bytes: int) -> dict[int, RecordError]:
    """An error for each result, by row, that its topic does not take."""
    if max(map(len, values)) <= max_bytes:
        return {}
    return {
        row: RecordTooLarge(f"the result has {len(value)} bytes; its topic takes at most {max_bytes}")
        for row, value in enumerate(values)
        if len(value) > max_bytes
    }
