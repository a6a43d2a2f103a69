"""What is done to a batch of requests, in order: decode, enrich, prepare, predict, encode, and where the answers go.

The loop (`streams/loop/loop.py`) brings batches and commits what comes out; the task (`tasks/`) knows its model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference_workers.media.reader import MediaReader
from inference_workers.networks.embedding import reduced
from inference_workers.served.served_models import Batch, ServedModels
from inference_workers.task import Prediction, Task, Use, Version, Versions
from processors.features.enrich import Enrich, Enriched, logged, named
from schemas.codec import Decoder, Encoder, SchemaIds
from schemas.encoding import Constant, Input
from schemas.errors import RecordError, RecordTooLarge, RetryLater
from schemas.topics import PREDICTION_LOG, REPLIES, SHADOW_RESULTS
from schemas.vocabulary import Arm
from streams import headers as h
from streams.clock import Clock
from streams.loop.outcome import Defer, Emit, Outcome, Reject
from streams.loop.processor import Processor, Report
from streams.metrics import Metrics
from streams.rows import OutRecords, Rows

MOST_VALUES = 4_096  # of one request: an item of 64 images has some hundred


MAX_TRACEPARENT_BYTES = 256  # W3C's has 55


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests of one batch that one set of versions answers."""

    rows: Rows
    enriched: Enriched
    started_ms: int


class TaskProcessor(Processor):
    """A task as the loop runs it. Pure but for models, media, features, clock and metrics."""

    def __init__(
        self,
        task: Task,
        models: ServedModels,
        media: MediaReader,
        enrich: Enrich,
        registry: SchemaIds,
        clock: Clock,
        worker: str,
        metrics: Metrics,
    ) -> None:
        record = task.consumption.topic.record
        assert record is not None and task.results.record is not None
        self._task, self._models, self._media, self._enrich = task, models, media, enrich
        self._clock, self._worker, self._metrics = clock, worker, metrics
        self._result_record: str = task.results.record.RECORD
        self._decoder = Decoder.of(task.consumption.topic, registry, MOST_VALUES)
        self._encoder = Encoder(self._result_record, task.results.subject, registry)
        self._log_encoder = Encoder.of(PREDICTION_LOG, registry)

    def process(self, rows: Rows) -> list[Outcome]:
        """One batch through the task, by one set of versions from its first row to its last. Rows that cannot be answered are told
        apart before the model sees them."""
        columns, undecodable = self._decoder.decode(rows.values)
        outcomes: list[Outcome] = _rejects(rows, undecodable, "decode")
        rows = _without(rows, undecodable)
        if not len(rows):
            return outcomes
        started_ms = self._clock.now_ms()
        enriched = self._enrich(columns)
        outcomes += _rejects(rows, enriched.refused, "enrich")
        outcomes += [Defer(rows.take([row]), error, "enrich") for row, error in enriched.held.items()]
        rows, enriched = _left(rows, enriched, {**enriched.refused, **enriched.held})
        if not len(rows):
            return outcomes
        with self._models.batch() as batch:
            for which, versions in batch.arms(rows.keys, rows.request_ids):
                asked = Asked(rows, enriched, started_ms)
                if which is not None:
                    asked = Asked(rows.take(which), enriched.take(which), started_ms)
                outcomes += self._by_arm(batch, asked, batch.without_failed(versions))
        return outcomes

    def _by_arm(self, batch: Batch, asked: Asked, versions: Versions) -> list[Outcome]:
        """What a challenger cannot answer the live versions do: only where they can is it the challenger's fault. A store that does
        not answer is nobody's."""
        if all(version.arm == Arm.LIVE for version in versions.values()):
            return self._answered(batch, asked, versions)
        try:
            return self._answered(batch, asked, versions)
        except RetryLater:
            raise
        except Exception as error:
            answered = self._answered(batch, asked, batch.live)
            batch.failed(versions, error)
            return answered

    def _answered(self, batch: Batch, asked: Asked, versions: Versions) -> list[Outcome]:
        rows, enriched, started_ms = asked.rows, asked.enriched, asked.started_ms
        started_s = self._clock.monotonic_s()
        prepared = self._task.prepare(enriched.columns, versions, self._media)
        outcomes = _rejects(rows, prepared.refused, "prepare")
        rows, enriched = _left(rows, enriched, prepared.refused)
        if not len(rows):
            return outcomes
        prediction = finite(self._task.predict(prepared.inputs, versions))
        compute_ms = (self._clock.monotonic_s() - started_s) * 1000
        queue_ms = np.maximum(0, started_ms - np.array(rows.timestamps_ms)).astype(np.float32)
        self._metrics.observe_all("queue_seconds", queue_ms / 1000)
        origin = self._origin(rows)
        result = _result(rows, origin, enriched, prediction, queue_ms, compute_ms)
        values = self._encoder.encode(result, len(rows))
        too_large = _too_large(values, self._task.results.max_record_bytes)
        if too_large:
            if len(rows) == 1:
                return [*outcomes, Reject(rows, too_large[0], "encode")]
            raise too_large[min(too_large)]  # halved until it is alone
        records = [
            *self._records(rows, values),
            *(self._log(rows, origin, enriched, use, started_ms) for use in prediction.uses),
            *self._shadowed(batch, Asked(rows, enriched, started_ms), prepared.inputs, versions),
            *self._models.announcements(batch, rows, versions),
        ]
        return [*outcomes, Emit(rows, records)]

    def _shadowed(self, batch: Batch, asked: Asked, inputs: Sequence[Any], versions: Versions) -> list[OutRecords]:
        """What shadows say of the same inputs: to the log and to a topic of its own, never to a caller, and at no request's cost."""
        out: list[OutRecords] = []
        for model, shadow, which in batch.shadowed(asked.rows.request_ids):
            if not which or shadow.folder.digest in batch.failures:
                continue
            held = {**versions, model: shadow}
            part = Asked(asked.rows.take(which), asked.enriched.take(which), asked.started_ms)
            try:
                out += self._by_shadow(part, [inputs[row] for row in which], held, shadow)
            except Exception as error:
                batch.failed({model: shadow}, error)
                continue
            out += self._models.announcements(batch, part.rows, {model: shadow})
        return out

    def _by_shadow(self, asked: Asked, inputs: Sequence[Any], versions: Versions, shadow: Version) -> list[OutRecords]:
        rows, enriched = asked.rows, asked.enriched
        begun_s = self._clock.monotonic_s()
        prediction = finite(self._task.predict(inputs, versions))
        origin = self._origin(rows)
        took_ms = (self._clock.monotonic_s() - begun_s) * 1000
        result = _result(rows, origin, enriched, prediction, np.zeros(len(rows), np.float32), took_ms)
        headers = h.cloud_event(rows.request_ids, self._result_record, self._worker)
        keys: list[bytes | None] = [one.encode() for one in rows.request_ids]
        return [
            *(self._log(rows, origin, enriched, use, asked.started_ms) for use in prediction.uses if use.version is shadow),
            OutRecords(SHADOW_RESULTS.name, keys, self._encoder.encode(result, len(rows)), headers),
        ]

    def answer(self, rows: Rows, status: str, code: str, message: str) -> list[OutRecords]:
        """Results that say why there is none."""
        columns = self._origin(rows) | {
            "status": Constant(status),
            "error_code": Constant(code),
            "error_message": Constant(message[:1000].encode(errors="replace").decode()),
        }
        return self._records(rows, self._encoder.encode(columns, len(rows)))

    def tick(self) -> None:
        self._models.follow()

    def report(self) -> Report:
        return self._models.report()

    def close(self) -> None:
        self._media.close()

    def _origin(self, rows: Rows) -> dict[str, Input]:
        topics, *numbers = zip(*rows.origins, strict=True)
        partitions, offsets = np.array(numbers, np.int64)
        return {
            "request_id": rows.request_ids,
            "origin_topic": Constant(topics[0]) if topics.count(topics[0]) == len(topics) else list(topics),
            "origin_partition": partitions,
            "origin_offset": offsets,
            "redrive": np.array(rows.redrives, np.int64),
        }

    def _records(self, rows: Rows, values: list[bytes]) -> list[OutRecords]:
        """The results, and a copy of each for the caller who named a partition of its own."""
        headers = h.cloud_event(rows.request_ids, self._result_record, self._worker)
        replies: list[tuple[int, int]] = []
        for i in [i for i, found in enumerate(rows.headers) if h.REPLY_TO in found or h.TRACEPARENT in found]:
            found = rows.headers[i]
            if len(found.get(h.TRACEPARENT, b"")) in range(1, MAX_TRACEPARENT_BYTES):
                headers[i].append((h.TRACEPARENT, found[h.TRACEPARENT]))
            partition = reply_partition(found.get(h.REPLY_TO, b""))
            if partition is not None:
                replies.append((i, partition))
        out = [OutRecords(self._task.results.name, rows.keys, values, headers)]
        if replies:
            chosen = [i for i, _ in replies]
            out.append(OutRecords(
                REPLIES.name, [rows.keys[i] for i in chosen], [values[i] for i in chosen],
                [headers[i] for i in chosen], [partition for _, partition in replies],
            ))  # fmt: skip
        return out

    def _log(self, rows: Rows, origin: dict[str, Input], enriched: Enriched, use: Use, started_ms: int) -> OutRecords:
        """One record: this batch through one model."""
        outputs, folder, which = use.outputs, use.version.folder, use.rows
        partitions, offsets = np.asarray(origin["origin_partition"], "<i4"), np.asarray(origin["origin_offset"], "<i8")
        request_ids = rows.request_ids
        if which is not None:
            partitions, offsets, request_ids = partitions[which], offsets[which], [request_ids[row] for row in which]
        columns: dict[str, Input] = {
            name: Constant(value)
            for name, value in {
                "worker": self._worker,
                "task": self._task.name,
                "model": folder.name,
                "version": folder.version,
                "digest": folder.digest,
                "arm": use.version.arm,
                "started_ms": started_ms,
                "compute_ms": use.compute_ms,
                "request_ids": request_ids,
                "origin_topic": self._task.consumption.topic.name,
                "origin_partitions": partitions.tobytes(),
                "origin_offsets": offsets.tobytes(),
                "outputs": np.ascontiguousarray(outputs).tobytes(),
                "outputs_dtype": outputs.dtype.str,
                "outputs_shape": list(outputs.shape),
                "signals": [{"name": name, "values": np.asarray(v, "<f4").tobytes()} for name, v in use.signals.items()],
                "parts": list(use.parts),
                "output_names": list(use.names),
                "thresholds": b"" if use.thresholds is None else np.asarray(use.thresholds, "<f4").tobytes(),
                "features": logged(enriched, which),
                "embeddings": b"" if use.embedding is None else reduced(use.embedding).tobytes(),
            }.items()
        }
        value = self._log_encoder.encode(columns, 1)
        header = h.cloud_event(request_ids[:1], "prediction-log", self._worker)
        return OutRecords(PREDICTION_LOG.name, [self._worker.encode()], [value[0]], header)


def finite(prediction: Prediction) -> Prediction:
    """Raises ValueError where a model's answer is no number: what is not comparable passes every threshold, and is no verdict."""
    for use in prediction.uses:
        if not np.isfinite(use.outputs).all():
            raise ValueError(f"{use.version.folder.name} {use.version.folder.version} answers with what is no finite number")
    return prediction


def _result(
    rows: Rows, origin: dict[str, Input], enriched: Enriched, prediction: Prediction, queue_ms: Any, compute_ms: float
) -> Mapping[str, Input]:
    return origin | {
        "status": Constant("ok"),
        "batch_size": Constant(len(rows)),
        "queue_ms": queue_ms,
        "compute_ms": Constant(compute_ms),
        "models": _models_of(len(rows), prediction.uses),
        **({"features": named(enriched)} if enriched.needs else {}),
        **prediction.results,
    }


def _models_of(n: int, uses: Sequence[Use]) -> Input:
    """Which models had a part in each result: the same for all where each model saw every request."""
    named = [
        {
            "name": use.version.folder.name,
            "version": use.version.folder.version,
            "arm": use.version.arm,
            "compute_ms": use.compute_ms,
        }
        for use in uses
    ]
    if all(use.rows is None for use in uses):
        return Constant(named)
    seen = [range(n) if use.rows is None else set(use.rows) for use in uses]
    return [[name for name, rows in zip(named, seen, strict=True) if row in rows] for row in range(n)]


def reply_partition(raw: bytes) -> int | None:
    """The partition in `replies-v1/N`; None for any other topic, so that nobody writes where they like."""
    topic, _, number = raw.partition(b"/")
    return h.whole(number, 0, REPLIES.partitions - 1) if topic == REPLIES.name.encode() else None


def _rejects(rows: Rows, errors: Mapping[int, RecordError], step: str) -> list[Outcome]:
    return [Reject(rows.take([row]), error, step) for row, error in errors.items()]


def _left(rows: Rows, enriched: Enriched, gone: Mapping[int, object]) -> tuple[Rows, Enriched]:
    """Both without some rows."""
    if not gone:
        return rows, enriched
    kept = [row for row in range(len(rows)) if row not in gone]
    return rows.take(kept), enriched.take(kept)


def _without(rows: Rows, gone: Mapping[int, RecordError]) -> Rows:
    return rows if not gone else rows.take([row for row in range(len(rows)) if row not in gone])


def _too_large(values: Sequence[bytes], limit: int) -> dict[int, RecordError]:
    if max(map(len, values)) <= limit:
        return {}
    return {
        row: RecordTooLarge(f"the result has {len(value)} bytes; its topic takes {limit}")
        for row, value in enumerate(values)
        if len(value) > limit
    }
