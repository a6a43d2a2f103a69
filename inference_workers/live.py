"""Which version of each model answers: read from `model-updates-v1`, loaded beside the old one, swapped between batches.

The topic is the truth. A version that cannot be loaded is refused and the old one stays; both are said on
`swap-acks-v1`: a swap in the transaction of the new version's first batch, with the first offset of each partition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from inference_workers.sources import open_source
from inference_workers.task import Task, Version, Versions
from schemas.codec import Encoder, SchemaIds, read_any
from schemas.errors import MillraceError, ModelRefused, RetryLater, UndecodableRecord
from schemas.generated import FirstOffset, ModelUpdate, SwapAck
from schemas.topics import SWAP_ACKS
from streams.broker import Broadcast
from streams.clock import Clock
from streams.headers import cloud_event
from streams.ids import uuid7
from streams.metrics import Metrics
from streams.rows import OutRecords, Place, Polled, Rows

FOLLOW_EVERY_S = 0.2
START_LIMIT_S = 30.0


@dataclass(frozen=True)
class _Loaded:
    update: ModelUpdate
    version: Version
    loaded_ms: float


class Live:
    """One model of a task. `current` changes only inside `follow`, so never within a batch."""

    def __init__(self, task: Task, model: str, first: Version, clock: Clock) -> None:
        self._task, self.model, self._clock = task, model, clock
        self._pool = ThreadPoolExecutor(1, f"load-{model}")
        self._loading: tuple[ModelUpdate, Future[_Loaded]] | None = None
        self._next: ModelUpdate | None = None
        self.swapped: _Loaded | None = None  # what is still to be announced for partitions not seen since
        self.previous: str | None = None
        self._announced: dict[Place, tuple[int, int]] = {}  # epoch and offset of the announcement
        self.current = first

    def wants(self, update: ModelUpdate) -> None:
        self._next = update

    def follow(self) -> tuple[ModelUpdate, MillraceError | None] | None:
        """Swap what has been loaded, begin to load what is wanted. An update that was swapped in just now, or refused
        and why."""
        ended = self._finish_loading()
        if self._next is not None and self._loading is None:
            update, self._next = self._next, None
            if update.digest != self.current.folder.digest:
                self._loading = update, self._pool.submit(load_update, self._task, self.model, update, self._clock)
        return ended

    def _finish_loading(self) -> tuple[ModelUpdate, MillraceError | None] | None:
        if self._loading is None or not self._loading[1].done():
            return None
        (update, future), self._loading = self._loading, None
        try:
            loaded = future.result()
        except MillraceError as refused:
            return update, refused
        except Exception as error:  # a library's own kind, on files that only look right
            return update, ModelRefused(f"{update.uri} cannot be loaded: {type(error).__name__}: {error}")
        self.previous, old = self.current.folder.version, self.current
        self.current = loaded.version
        self.swapped = loaded
        self._announced.clear()
        old.backend.close()
        return update, None

    def unannounced(self, rows: Rows) -> tuple[FirstOffset, ...]:
        """First offsets of partitions for which the swap has not been announced yet, or whose announcement was read
        again because its transaction did not happen."""
        if self.swapped is None:
            return ()
        first: list[FirstOffset] = []
        for place, (low, _) in rows.spans().items():
            epoch, offset = self._announced.get(place, (-1, -1))
            if epoch < 0 or (epoch != rows.epoch and low <= offset):
                self._announced[place] = (rows.epoch, low)
                first.append(FirstOffset(topic=place[0], partition=place[1], offset=low))
        return tuple(first)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Models:
    """Implements `streams.loop.Follower`: all models of a task, kept at what the topic says."""

    def __init__(
        self,
        task: Task,
        updates: Broadcast,
        ids: SchemaIds,
        clock: Clock,
        worker: str,
        metrics: Metrics,
        report: Callable[[OutRecords], None],
        sources: Mapping[str, str] | None = None,
    ) -> None:
        """sources: of models to start with, instead of the task's own. Raises ModelRefused where one has none that
        can be loaded."""
        self._task, self._updates, self._ids = task, updates, ids
        self._clock, self._worker, self._metrics, self._report = clock, worker, metrics, report
        self._acks = Encoder("swap-ack", SWAP_ACKS.subject, ids)
        self._log = structlog.get_logger().bind(worker=worker)
        self._looked_s = 0.0
        last = self._last_updates(self._updates.read_to_end(START_LIMIT_S))
        self._live = {
            model: Live(task, model, self._first(model, last.get(model), (sources or {}).get(model, own)), clock)
            for model, own in task.models.items()
        }

    @property
    def current(self) -> Versions:
        return {model: live.current for model, live in self._live.items()}

    def versions(self) -> dict[str, str]:
        return {model: live.current.folder.version for model, live in self._live.items()}

    def _first(self, model: str, update: ModelUpdate | None, source: str) -> Version:
        """The last update of the model if it can be loaded, else its source."""
        if update is not None:
            try:
                return load_update(self._task, model, update, self._clock).version
            except MillraceError as refused:
                self._refuse(update, refused)
        folder = open_source(source)
        return Version(folder, self._task.load(folder, model))

    def follow(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s < FOLLOW_EVERY_S:
            return
        self._looked_s = now_s
        for model, update in self._last_updates(self._updates.poll()).items():
            self._live[model].wants(update)
        for live in self._live.values():
            ended = live.follow()
            if ended is None:
                continue
            update, refused = ended
            if refused is not None:
                self._refuse(update, refused)
                continue
            self._metrics.add("swaps", 1, outcome="accepted")
            self._log.info("swapped", model=live.model, version=update.version, previous=live.previous, reason=update.reason)

    def _last_updates(self, polled: Polled) -> dict[str, ModelUpdate]:
        found: dict[str, ModelUpdate] = {}
        for value in polled.values:
            try:
                update = ModelUpdate.from_dict(read_any(value, self._ids))
            except (UndecodableRecord, RetryLater, KeyError) as error:
                self._log.error("model update that cannot be read", cause=str(error))
                continue
            if update.model in self._task.models:
                found[update.model] = update
        return found

    def _refuse(self, update: ModelUpdate, refused: MillraceError) -> None:
        self._metrics.add("swaps", 1, outcome="refused")
        self._log.error("version refused; the old one stays", model=update.model, version=update.version, cause=str(refused))
        self._report(self._record(SwapAck(
            model=update.model, version=update.version, worker=self._worker, accepted=False, reason=str(refused)
        )))  # fmt: skip

    def announcements(self, rows: Rows) -> list[OutRecords]:
        """What the transaction of this batch says of the last swaps."""
        said = []
        for live in self._live.values():
            first = live.unannounced(rows)
            if first and live.swapped is not None:
                said.append(self._record(SwapAck(
                    model=live.model, version=live.current.folder.version, previous=live.previous, worker=self._worker,
                    accepted=True, loaded_ms=live.swapped.loaded_ms, first_offsets=first,
                )))  # fmt: skip
        return said

    def _record(self, ack: SwapAck) -> OutRecords:
        headers = cloud_event([uuid7(self._clock.now_ms())], "swap-ack", self._worker)
        return OutRecords(SWAP_ACKS.name, [ack.model.encode()], [self._acks.encode_one(ack)], headers)

    def close(self) -> None:
        for live in self._live.values():
            live.close()
        self._updates.close()


def load_update(task: Task, model: str, update: ModelUpdate, clock: Clock) -> _Loaded:
    """Raises ModelRefused where the source is not what was announced, or does not fit the task."""
    started_s = clock.monotonic_s()
    folder = open_source(update.uri, update.digest)
    if folder.version != update.version or (folder.name != update.model and not folder.huggingface):
        raise ModelRefused(f"{update.uri} is {folder.name} {folder.version}; {update.model} {update.version} was announced")
    version = Version(folder, task.load(folder, model))
    return _Loaded(update, version, (clock.monotonic_s() - started_s) * 1000)
