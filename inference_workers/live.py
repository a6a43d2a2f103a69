"""Which version of a model answers: read from `model-updates-v1`, loaded beside the old one, swapped between batches.

The topic is the truth. A version that cannot be loaded is refused and the old one stays; both are said on
`swap-acks-v1`: a swap in the transaction of the new version's first batch, with the first offset of each partition.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from inference_workers.networks.folder import open_folder, resolve
from inference_workers.task import Task, Version
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
    update: ModelUpdate | None
    version: Version
    loaded_ms: float


class Live:
    """Implements `streams.loop.Follower`. `current` changes only inside `follow`, so never within a batch."""

    def __init__(
        self,
        task: Task,
        updates: Broadcast,
        ids: SchemaIds,
        clock: Clock,
        worker: str,
        metrics: Metrics,
        report: Callable[[OutRecords], None],
        first_uri: str | None = None,
    ) -> None:
        self._task, self._updates, self._ids = task, updates, ids
        self._clock, self._worker, self._metrics, self._report = clock, worker, metrics, report
        self._first_uri = first_uri or task.default_uri
        self._acks = Encoder("swap-ack", SWAP_ACKS.subject, ids)
        self._log = structlog.get_logger().bind(worker=worker, model=task.model)
        self._pool = ThreadPoolExecutor(1, "load")
        self._loading: tuple[ModelUpdate, Future[_Loaded]] | None = None
        self._next: ModelUpdate | None = None
        self._looked_s = 0.0
        self._swapped: _Loaded | None = None  # what is still to be announced for partitions not seen since
        self._previous: str | None = None
        self._announced: dict[Place, tuple[int, int]] = {}  # epoch and offset of the announcement
        self.current = self._first()

    def _first(self) -> Version:
        """The last update of our model if it can be loaded, else what is shipped. Raises ModelRefused for neither."""
        update = self._last_update(self._updates.read_to_end(START_LIMIT_S))
        if update is not None:
            try:
                return self._load(update).version
            except ModelRefused as refused:
                self._refuse(update, str(refused))
        folder = open_folder(resolve(self._first_uri))
        return Version(folder, self._task.load(folder))

    def follow(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s < FOLLOW_EVERY_S:
            return
        self._looked_s = now_s
        update = self._last_update(self._updates.poll())
        if update is not None:
            self._next = update
        self._finish_loading()
        if self._next is not None and self._loading is None:
            update, self._next = self._next, None
            if update.digest != self.current.folder.digest:
                self._loading = update, self._pool.submit(self._load, update)

    def _finish_loading(self) -> None:
        if self._loading is None or not self._loading[1].done():
            return
        (update, future), self._loading = self._loading, None
        try:
            loaded = future.result()
        except MillraceError as refused:
            self._refuse(update, str(refused))
            return
        self._previous, old = self.current.folder.version, self.current
        self.current = loaded.version
        self._swapped = loaded
        self._announced.clear()
        old.backend.close()
        self._metrics.add("swaps", 1, outcome="accepted")
        self._log.info("swapped", version=loaded.version.folder.version, previous=self._previous, reason=update.reason)

    def _load(self, update: ModelUpdate) -> _Loaded:
        started_s = self._clock.monotonic_s()
        folder = open_folder(resolve(update.uri), update.digest)
        if folder.version != update.version or folder.name != update.model:
            raise ModelRefused(f"{update.uri} is {folder.name} {folder.version}; {update.model} {update.version} was announced")
        version = Version(folder, self._task.load(folder))
        return _Loaded(update, version, (self._clock.monotonic_s() - started_s) * 1000)

    def _last_update(self, polled: Polled) -> ModelUpdate | None:
        found: ModelUpdate | None = None
        for value in polled.values:
            try:
                update = ModelUpdate.from_dict(read_any(value, self._ids))
            except (UndecodableRecord, RetryLater, KeyError) as error:
                self._log.error("model update that cannot be read", cause=str(error))
                continue
            if update.model == self._task.model:
                found = update
        return found

    def _refuse(self, update: ModelUpdate, reason: str) -> None:
        self._metrics.add("swaps", 1, outcome="refused")
        self._log.error("version refused; the old one stays", version=update.version, cause=reason)
        self._report(self._record(SwapAck(
            model=update.model, version=update.version, worker=self._worker, accepted=False, reason=reason
        )))  # fmt: skip

    def announcement(self, rows: Rows) -> list[OutRecords]:
        """What the transaction of this batch says of the last swap: partitions that have not been announced yet,
        or whose announcement was read again because its transaction did not happen."""
        if self._swapped is None:
            return []
        first: list[FirstOffset] = []
        for place, (low, _) in rows.spans().items():
            epoch, offset = self._announced.get(place, (-1, -1))
            if epoch < 0 or (epoch != rows.epoch and low <= offset):
                self._announced[place] = (rows.epoch, low)
                first.append(FirstOffset(topic=place[0], partition=place[1], offset=low))
        if not first:
            return []
        folder = self.current.folder
        return [self._record(SwapAck(
            model=folder.name, version=folder.version, previous=self._previous, worker=self._worker, accepted=True,
            loaded_ms=self._swapped.loaded_ms, first_offsets=tuple(first),
        ))]  # fmt: skip

    def _record(self, ack: SwapAck) -> OutRecords:
        headers = cloud_event([uuid7(self._clock.now_ms())], "swap-ack", self._worker)
        return OutRecords(SWAP_ACKS.name, [ack.model.encode()], [self._acks.encode_one(ack)], headers)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._updates.close()
