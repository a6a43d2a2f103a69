"""The work on one batch of requests, in order: decode, enrich, prepare, predict, encode.

The loop (`streams/loop/loop.py`) passes batches in and commits the outcomes; the task (`tasks/`) knows its models;
`result_records.py` builds the records and chooses their topics.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from inference_workers.media.reader import MediaReader
from inference_workers.result_records import ResultRecords, origin_columns, result_columns, too_large
from inference_workers.served.batch_versions import Batch
from inference_workers.task import Prediction, Task, Version, Versions
from processors.features.enrich import Enrich, Enriched
from schemas.codec import Decoder, SchemaIds
from schemas.encoding import Constant
from schemas.errors import RetryLater
from schemas.vocabulary import Arm
from streams.clock import Clock
from streams.loop.outcome import Defer, Emit, Outcome, Reject, rejects
from streams.loop.processor import Processor, Report
from streams.metrics import Metrics
from streams.rows import OutRecords, Rows

MAX_VALUES = 4_096  # per request, including nested values: an item with 64 images has a few hundred


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests of a batch that one set of versions answers."""

    rows: Rows
    enriched: Enriched
    started_ms: int

    def take(self, which: Sequence[int] | None) -> Requests:
        """The requests in some rows; None stands for all."""
        if which is None:
            return self
        return Requests(self.rows.take(which), self.enriched.take(which), self.started_ms)


class Models(Protocol):
    """The versions that answer: `served/served_models.py` follows them from their topic."""

    def batch(self) -> AbstractContextManager[Batch]:
        """The versions that answer the next batch, held until it is done."""
        ...

    def announcements(self, batch: Batch, rows: Rows, versions: Versions) -> list[OutRecords]:
        """Records that say which versions answered these rows for the first time."""
        ...

    def follow(self) -> None: ...

    def report(self) -> Report: ...


class Items(Protocol):
    """The items that a task knows: `served/followed_items.py` follows them from their topic."""

    def poll(self) -> None: ...

    def bring_up(self, versions: Iterable[Version]) -> None:
        """Give each version the changes that it lacks. Called between batches only."""
        ...

    def close(self) -> None: ...


class TaskProcessor(Processor):
    """Runs a task in the loop. Pure except for models, media, features, clock and metrics."""

    def __init__(
        self,
        task: Task,
        models: Models,
        media: MediaReader,
        enrich: Enrich,
        registry: SchemaIds,
        clock: Clock,
        worker: str,
        metrics: Metrics,
        items: Items | None = None,
    ) -> None:
        self._task, self._models, self._media, self._enrich, self._items = task, models, media, enrich, items
        self._clock, self._metrics = clock, metrics
        self._decoder = Decoder.of(task.consumption.topic, registry, MAX_VALUES)
        self._records = ResultRecords(task, registry, worker)

    def process(self, rows: Rows) -> list[Outcome]:
        """Run the task on one batch, with one set of versions from its first row to its last. Rows that cannot be decoded or
        enriched do not reach the model."""
        columns, undecodable = self._decoder.decode(rows.values)
        outcomes = rejects(rows, undecodable, "decode")
        rows = rows.without(undecodable)
        if not len(rows):
            return outcomes
        started_ms = self._clock.now_ms()
        enriched = self._enrich(columns, started_ms)
        outcomes += rejects(rows, enriched.refused, "enrich")
        outcomes += [Defer(rows.take([row]), error, "enrich") for row, error in enriched.held.items()]
        rows, enriched = _without(rows, enriched, {**enriched.refused, **enriched.held})
        if not len(rows):
            return outcomes
        requests = Requests(rows, enriched, started_ms)
        with self._models.batch() as batch:
            if self._items is not None:
                self._items.bring_up(batch.versions())
            for which, versions in batch.arms(rows.keys, rows.request_ids):
                outcomes += self._by_arm(batch, requests.take(which), batch.without_failed(versions))
        return outcomes

    def _by_arm(self, batch: Batch, requests: Requests, versions: Versions) -> list[Outcome]:
        """If a challenger cannot answer, the live versions answer. The failure counts against the challenger only if they can. A
        store that does not answer counts against neither."""
        if all(version.arm == Arm.LIVE for version in versions.values()):
            return self._answered(batch, requests, versions)
        try:
            return self._answered(batch, requests, versions)
        except RetryLater:
            raise
        except Exception as error:
            outcomes = self._answered(batch, requests, batch.live)
            batch.failed(versions, error)
            return outcomes

    def _answered(self, batch: Batch, requests: Requests, versions: Versions) -> list[Outcome]:
        rows, enriched, started_ms = requests.rows, requests.enriched, requests.started_ms
        started_s = self._clock.monotonic_s()
        prepared = self._task.prepare(enriched.columns, versions, self._media)
        outcomes = rejects(rows, prepared.refused, "prepare")
        rows, enriched = _without(rows, enriched, prepared.refused)
        if not len(rows):
            return outcomes
        prediction = finite(self._task.predict(prepared.inputs, versions))
        compute_ms = (self._clock.monotonic_s() - started_s) * 1000
        queue_ms = np.maximum(0, started_ms - np.array(rows.timestamps_ms)).astype(np.float32)
        self._metrics.observe_all("queue_seconds", queue_ms / 1000)
        origin = origin_columns(rows)
        columns = result_columns(rows, origin, enriched, prediction, queue_ms, compute_ms)
        values = self._records.encode(columns, len(rows))
        if errors := too_large(values, self._task.results.max_record_bytes):
            if len(rows) == 1:
                return [*outcomes, Reject(rows, errors[0], "encode")]
            raise errors[min(errors)]  # the step then halves the batch until the failing row is alone
        records = [
            *self._records.results(rows, values),
            *(self._records.log(rows, origin, enriched, use, started_ms) for use in prediction.uses),
            *self._shadowed(batch, Requests(rows, enriched, started_ms), prepared.inputs, versions),
            *self._models.announcements(batch, rows, versions),
        ]
        return [*outcomes, Emit(rows, records)]

    def _shadowed(self, batch: Batch, requests: Requests, inputs: Sequence[Any], versions: Versions) -> list[OutRecords]:
        """Predictions of the shadows for the same inputs, for the prediction log and the topic of shadow results. If a shadow
        fails, every request still gets its answer."""
        records: list[OutRecords] = []
        for model, shadow, which in batch.shadowed(requests.rows.request_ids):
            if not which or shadow.folder.digest in batch.failures:
                continue
            sampled = requests.take(which)
            try:
                records += self._by_shadow(sampled, [inputs[row] for row in which], {**versions, model: shadow}, shadow)
            except Exception as error:
                batch.failed({model: shadow}, error)
                continue
            records += self._models.announcements(batch, sampled.rows, {model: shadow})
        return records

    def _by_shadow(self, requests: Requests, inputs: Sequence[Any], versions: Versions, shadow: Version) -> list[OutRecords]:
        rows, enriched = requests.rows, requests.enriched
        started_s = self._clock.monotonic_s()
        prediction = finite(self._task.predict(inputs, versions))
        origin = origin_columns(rows)
        compute_ms = (self._clock.monotonic_s() - started_s) * 1000
        columns = result_columns(rows, origin, enriched, prediction, np.zeros(len(rows), np.float32), compute_ms)
        by_shadow = (use for use in prediction.uses if use.version is shadow)
        return [
            *(self._records.log(rows, origin, enriched, use, requests.started_ms) for use in by_shadow),
            self._records.shadow_results(rows, self._records.encode(columns, len(rows))),
        ]

    def answer(self, rows: Rows, status: str, code: str, message: str) -> list[OutRecords]:
        """Result records that state why there is no answer."""
        columns = origin_columns(rows) | {
            "status": Constant(status),
            "error_code": Constant(code),
            "error_message": Constant(message[:1000].encode(errors="replace").decode()),
        }
        return self._records.results(rows, self._records.encode(columns, len(rows)))

    def tick(self) -> None:
        self._models.follow()
        if self._items is not None:
            self._items.poll()

    def report(self) -> Report:
        return self._models.report()

    def close(self) -> None:
        self._media.close()
        if self._items is not None:
            self._items.close()


def finite(prediction: Prediction) -> Prediction:
    """Raises ValueError if an output of a model is NaN or infinite: such a value cannot be compared with a threshold."""
    for use in prediction.uses:
        if not np.isfinite(use.outputs).all():
            raise ValueError(f"an output of {use.version.folder.name} {use.version.folder.version} is NaN or infinite")
    return prediction


def _without(rows: Rows, enriched: Enriched, indices: Collection[int]) -> tuple[Rows, Enriched]:
    if not indices:
        return rows, enriched
    left = [row for row in range(len(rows)) if row not in indices]
    return rows.take(left), enriched.take(left)
