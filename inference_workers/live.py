"""Which versions of each model answer: read from `model-updates-v1`, loaded beside the old ones, swapped between batches.

The topic is the truth. A version that cannot be loaded is refused and what answered stays; both are said on
`swap-acks-v1`: a swap in the transaction of the new version's first batch, with the first offset of each partition.

Beside the live version a canary may answer a share of the keys, and a shadow may be asked in secret. Neither costs a request: a
canary that fails on a batch is dropped, and the live version answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
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
LIVE, CANARY, SHADOW = "live", "canary", "shadow"


@dataclass(frozen=True)
class Wanted:
    """A version as it was announced for one arm of a model."""

    model: str
    arm: str
    version: str
    uri: str
    digest: str
    reason: str
    share: float = 1.0
    salt: str = ""


def wanted(update: ModelUpdate) -> dict[str, Wanted]:
    """By arm; an arm that is not named has no version from here on."""
    found = {LIVE: Wanted(update.model, LIVE, update.version, update.uri, update.digest, update.reason)}
    for one in update.challengers:
        if one.arm in (CANARY, SHADOW):
            found[one.arm] = Wanted(update.model, one.arm, one.version, one.uri, one.digest, update.reason, one.share, one.salt)
    return found


def chosen(key: bytes | None, request_id: str, share: float, salt: str) -> bool:
    """Whether a challenger answers: the same for all requests with a key, whichever worker reads them."""
    raw = salt.encode() + b"/" + (key if key is not None else request_id.encode())
    return int.from_bytes(hashlib.blake2b(raw, digest_size=4).digest()) < share * 2**32


@dataclass(frozen=True)
class _Loaded:
    wanted: Wanted
    version: Version
    loaded_ms: float


class Live:
    """One arm of one model. `current` changes only inside `follow`, so never within a batch."""

    def __init__(self, task: Task, model: str, first: Version | None, clock: Clock, arm: str = LIVE) -> None:
        self._task, self.model, self.arm, self._clock = task, model, arm, clock
        self._pool = ThreadPoolExecutor(1, f"load-{model}")
        self._loading: tuple[Wanted, Future[_Loaded]] | None = None
        self._next: Wanted | None = None
        self.swapped: _Loaded | None = None  # what is still to be announced for partitions not seen since
        self.previous: str | None = None
        self._announced: dict[Place, tuple[int, int]] = {}  # epoch and offset of the announcement
        self.current = first
        self.failed = ""  # digest of a version that was dropped: it is not taken up again

    def wants(self, what: Wanted) -> None:
        self._next = what

    def drop(self) -> None:
        """No version from here on; what is loading is forgotten when it is there."""
        self._next, self.swapped = None, None
        if self._loading is not None:
            self._next = Wanted(self.model, self.arm, "", "", "", "")
        if self.current is not None:
            self.current.backend.close()
            self.current = None

    def follow(self) -> tuple[Wanted, MillraceError | None] | None:
        """Swap what has been loaded, begin to load what is wanted. What was swapped in just now, or refused and why."""
        ended = self._finish_loading()
        if self._next is not None and self._loading is None:
            what, self._next = self._next, None
            held = self.swapped.wanted if self.swapped is not None else None
            if not what.digest:
                self.drop()
            elif self.current is None or what.digest != self.current.folder.digest:
                if what.digest != self.failed:
                    self._loading = what, self._pool.submit(load_update, self._task, what, self._clock)
            elif held is not None and (held.share, held.salt) != (what.share, what.salt):
                self.swapped = _Loaded(what, self.current, 0.0)
        return ended

    def _finish_loading(self) -> tuple[Wanted, MillraceError | None] | None:
        if self._loading is None or not self._loading[1].done():
            return None
        (what, future), self._loading = self._loading, None
        try:
            loaded = future.result()
        except MillraceError as refused:
            return what, refused
        except Exception as error:  # a library's own kind, on files that only look right
            return what, ModelRefused(f"{what.uri} cannot be loaded: {type(error).__name__}: {error}")
        old, self.current = self.current, loaded.version
        self.previous = old.folder.version if old is not None else None
        self.swapped = loaded
        self._announced.clear()
        if old is not None:
            old.backend.close()
        return what, None

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
        self._beside = {(model, arm): Live(task, model, None, clock, arm) for model in task.models for arm in (CANARY, SHADOW)}
        for update in last.values():
            self._challenge(update)

    @property
    def current(self) -> Versions:
        found = {model: live.current for model, live in self._live.items()}
        return {model: version for model, version in found.items() if version is not None}

    def versions(self) -> dict[str, str]:
        return {model: version.folder.version for model, version in self.current.items()}

    def arms(self, keys: Sequence[bytes | None], request_ids: Sequence[str]) -> list[tuple[list[int] | None, Versions]]:
        """Which rows each set of versions answers; None stands for all rows."""
        live = self.current
        canaries = self._answering(CANARY)
        if not canaries:
            return [(None, live)]
        rows: dict[tuple[bool, ...], list[int]] = {}
        for row, (key, request_id) in enumerate(zip(keys, request_ids, strict=True)):
            told = tuple(chosen(key, request_id, what.share, what.salt) for what, _ in canaries)
            rows.setdefault(told, []).append(row)
        return [
            (which, {**live, **{what.model: version for (what, version), is_his in zip(canaries, told, strict=True) if is_his}})
            for told, which in rows.items()
        ]

    def shadows(self, request_ids: Sequence[str]) -> list[tuple[str, Version, list[int]]]:
        """Model, version and rows of each shadow."""
        return [
            (what.model, version, [row for row, one in enumerate(request_ids) if chosen(None, one, what.share, what.salt)])
            for what, version in self._answering(SHADOW)
        ]

    def _answering(self, arm: str) -> list[tuple[Wanted, Version]]:
        """The challengers of an arm that are loaded."""
        return [
            (one.swapped.wanted, one.swapped.version)
            for (_, its_arm), one in self._beside.items()
            if its_arm == arm and one.swapped is not None
        ]

    def failed(self, versions: Versions, error: Exception) -> None:
        """Challengers among these could not answer what the live versions could: they are dropped, and it is said."""
        for (model, _), one in self._beside.items():
            if one.swapped is not None and versions.get(model) is one.swapped.version:
                what, one.failed = one.swapped.wanted, one.swapped.wanted.digest
                one.drop()
                words = f"it failed where the live version answered: {type(error).__name__}: {error}"
                self._refuse(what, ModelRefused(words))

    def _first(self, model: str, update: ModelUpdate | None, source: str) -> Version:
        """The last update of the model if it can be loaded, else its source."""
        if update is not None:
            what = wanted(update)[LIVE]
            try:
                return load_update(self._task, what, self._clock).version
            except MillraceError as refused:
                self._refuse(what, refused)
        folder = open_source(source)
        return Version(folder, self._task.load(folder, model))

    def _challenge(self, update: ModelUpdate) -> None:
        found = wanted(update)
        for arm in (CANARY, SHADOW):
            one = self._beside[update.model, arm]
            if arm in found:
                one.wants(found[arm])
            else:
                one.failed = ""
                one.drop()

    def follow(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s < FOLLOW_EVERY_S:
            return
        self._looked_s = now_s
        for model, update in self._last_updates(self._updates.poll()).items():
            self._live[model].wants(wanted(update)[LIVE])
            self._challenge(update)
        for live in (*self._live.values(), *self._beside.values()):
            ended = live.follow()
            if ended is None:
                continue
            what, refused = ended
            if refused is not None:
                self._refuse(what, refused)
                continue
            self._metrics.add("swaps", 1, outcome="accepted")
            self._log.info(
                "swapped", model=live.model, arm=live.arm, version=what.version, previous=live.previous, reason=what.reason
            )

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

    def _refuse(self, what: Wanted, refused: MillraceError) -> None:
        self._metrics.add("swaps", 1, outcome="refused")
        self._log.error(
            "version refused; what answered stays", model=what.model, arm=what.arm, version=what.version, cause=str(refused)
        )
        self._report(self._record(SwapAck(
            model=what.model, version=what.version, worker=self._worker, accepted=False, reason=str(refused)[:500], arm=what.arm
        )))  # fmt: skip

    def announcements(self, rows: Rows) -> list[OutRecords]:
        """What the transaction of this batch says of the last swaps."""
        said = []
        for live in (*self._live.values(), *self._beside.values()):
            first = live.unannounced(rows)
            if first and live.swapped is not None:
                said.append(self._record(SwapAck(
                    model=live.model, version=live.swapped.wanted.version, previous=live.previous, worker=self._worker,
                    accepted=True, loaded_ms=live.swapped.loaded_ms, first_offsets=first, arm=live.arm,
                )))  # fmt: skip
        return said

    def _record(self, ack: SwapAck) -> OutRecords:
        headers = cloud_event([uuid7(self._clock.now_ms())], "swap-ack", self._worker)
        return OutRecords(SWAP_ACKS.name, [ack.model.encode()], [self._acks.encode_one(ack)], headers)

    def close(self) -> None:
        for live in (*self._live.values(), *self._beside.values()):
            live.close()
        self._updates.close()


def load_update(task: Task, what: Wanted, clock: Clock) -> _Loaded:
    """Raises ModelRefused where the source is not what was announced, or does not fit the task."""
    started_s = clock.monotonic_s()
    folder = open_source(what.uri, what.digest)
    if folder.version != what.version or (folder.name != what.model and not folder.huggingface):
        raise ModelRefused(f"{what.uri} is {folder.name} {folder.version}; {what.model} {what.version} was announced")
    version = Version(folder, task.load(folder, what.model), what.arm)
    return _Loaded(what, version, (clock.monotonic_s() - started_s) * 1000)
