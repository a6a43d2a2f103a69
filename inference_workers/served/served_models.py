"""Which versions of each model answer: read from `model-updates-v1`, loaded beside the old ones, swapped between batches.

The topic is the truth. A version that cannot be loaded is refused and what answered stays, in a restarted worker too; both are
told on `swap-acks-v1`: a swap in the transaction of the new version's first batch, with the first offset of each partition.

Beside the live version a canary may answer a share of the keys, and a shadow may be asked in secret. Neither costs a request: a
canary that fails on a batch is dropped, and the live version answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock

import structlog

from inference_workers.models.addresses import open_source
from inference_workers.served.announcements import AnnouncedVersion, Updates, announced
from inference_workers.served.model_arm import Ended, Loaded, Mark, ModelArm
from inference_workers.task import Task, Version, Versions
from schemas.codec import SchemaIds
from schemas.errors import MillraceError, ModelRefused, RetryLater
from schemas.generated import ModelUpdate, SwapAck
from schemas.topics import SWAP_ACKS
from schemas.vocabulary import Arm
from streams.broker import Broadcast
from streams.clock import Clock
from streams.ids import uuid7
from streams.loop.processor import Report
from streams.metrics import Metrics
from streams.record_writer import RecordWriter
from streams.rows import OutRecords, Place, Rows

FOLLOW_EVERY_S = 0.2
START_LIMIT_S = 30.0


def chosen(key: bytes | None, request_id: str, share: float, salt: str) -> bool:
    """Whether a challenger answers: the same for all requests with a key, whichever worker reads them."""
    raw = salt.encode() + b"/" + (key if key is not None else request_id.encode())
    return int.from_bytes(hashlib.blake2b(raw, digest_size=4).digest()) < share * 2**32


@dataclass
class Batch:
    """What answers one batch, from its first row to its last: no swap changes it."""

    live: Versions
    canaries: Sequence[Loaded]
    shadows: Sequence[Loaded]
    failures: dict[str, Exception] = field(default_factory=dict)  # by digest of a challenger that could not answer
    marks: dict[tuple[str, str], dict[Place, Mark]] = field(default_factory=dict)

    def arms(self, keys: Sequence[bytes | None], request_ids: Sequence[str]) -> list[tuple[list[int] | None, Versions]]:
        """Which rows each set of versions answers; None stands for all rows."""
        if not self.canaries:
            return [(None, self.live)]
        rows: dict[tuple[bool, ...], list[int]] = {}
        for row, (key, request_id) in enumerate(zip(keys, request_ids, strict=True)):
            told = tuple(chosen(key, request_id, one.wanted.share, one.wanted.salt) for one in self.canaries)
            rows.setdefault(told, []).append(row)
        return [
            (which, {**self.live, **{one.wanted.model: one.version for one, is_his in zip(self.canaries, told, strict=True) if is_his}})
            for told, which in rows.items()
        ]  # fmt: skip

    def shadowed(self, request_ids: Sequence[str]) -> list[tuple[str, Version, list[int]]]:
        """Model, version and rows of each shadow."""
        told: list[tuple[str, Version, list[int]]] = []
        for one in self.shadows:
            what = one.wanted
            rows = [row for row, name in enumerate(request_ids) if chosen(None, name, what.share, what.salt)]
            told.append((what.model, one.version, rows))
        return told

    def failed(self, versions: Versions, error: Exception) -> None:
        """Challengers among these could not answer what the live versions could: they are dropped when the batch is done."""
        for one in (*self.canaries, *self.shadows):
            if versions.get(one.wanted.model) is one.version:
                self.failures.setdefault(one.wanted.digest, error)

    def without_failed(self, versions: Versions) -> Versions:
        """These versions, the live one in place of each challenger that has failed in this batch."""
        return {
            model: self.live[model] if version.arm != Arm.LIVE and version.folder.digest in self.failures else version
            for model, version in versions.items()
        }


class ServedModels:
    """All models of a task, kept at what the topic says."""

    def __init__(
        self,
        task: Task,
        updates: Broadcast,
        registry: SchemaIds,
        clock: Clock,
        worker: str,
        metrics: Metrics,
        report: Callable[[OutRecords], None],
        sources: Mapping[str, str] | None = None,
    ) -> None:
        """sources: of models to start with, instead of the task's own. Raises ModelRefused where one has none that can be loaded,
        BrokerUnavailable where the updates cannot be read."""
        self._task, self._clock, self._worker, self._metrics, self._report = task, clock, worker, metrics, report
        self._acks = RecordWriter(SWAP_ACKS, registry, worker)
        self._log = structlog.get_logger().bind(worker=worker)
        self._between_batches = Lock()
        self._looked_s = 0.0
        self._updates = Updates(updates, registry, clock, metrics)
        self._arms: dict[tuple[str, str], ModelArm] = {}
        history = self._updates.history(START_LIMIT_S)
        for model, own in task.models.items():
            self._start(model, [update for update in history if update.model == model], (sources or {}).get(model, own))

    # --- what answers -------------------------------------------------------------------------------------------

    @property
    def current(self) -> Versions:
        return {one.wanted.model: one.version for one in self._held(Arm.LIVE)}

    def _held(self, arm: str) -> list[Loaded]:
        return [one.held for one in self._arms.values() if one.arm == arm and one.held is not None]

    def report(self) -> Report:
        """Its notes: the announced versions that do not answer, and why."""
        current = self.current
        troubles = [self._updates.trouble, *(arm.trouble for arm in self._arms.values())]
        return Report(
            versions={model: version.folder.version for model, version in current.items()},
            digests={model: version.folder.digest for model, version in current.items()},
            notes=[trouble[:500] for trouble in troubles if trouble],
        )

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """What answers a batch. While it is worked on, on whichever thread, nothing is swapped; announcements count as made only
        where it ends without an error."""
        with self._between_batches:
            batch = Batch(self.current, self._held(Arm.CANARY), self._held(Arm.SHADOW))
            try:
                yield batch
                for key, marks in batch.marks.items():
                    self._arms[key].announced(marks)
            finally:
                self._drop_failed(batch)

    def _drop_failed(self, batch: Batch) -> None:
        for one in self._arms.values():
            error = batch.failures.get(one.held.wanted.digest) if one.arm != Arm.LIVE and one.held is not None else None
            if error is not None and one.held is not None:
                what, why = one.held.wanted, f"it failed where the live version answered: {type(error).__name__}: {error}"
                one.drop(why)
                self._refuse(what, ModelRefused(why))

    def announcements(self, batch: Batch, rows: Rows, versions: Versions) -> list[OutRecords]:
        """What the transaction of these rows, which these versions answered, says of the last swaps."""
        said = []
        for key, one in self._arms.items():
            if one.held is None or versions.get(one.model) is not one.held.version:
                continue
            staged = batch.marks.setdefault(key, {})
            first = one.unannounced(rows, staged)
            if first:
                staged.update({(at.topic, at.partition): mark for at, mark in first.items()})
                said.append(self._record(SwapAck(
                    model=one.model, version=one.held.wanted.version, digest=one.held.wanted.digest, previous=one.held.previous,
                    worker=self._worker, accepted=True, loaded_ms=one.held.loaded_ms, first_offsets=tuple(first), arm=one.arm,
                )))  # fmt: skip
        return said

    # --- following the topic ------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Go one step towards what is announced; waits for nothing. A batch that runs on another thread is left alone."""
        if not self._between_batches.acquire(blocking=False):
            return
        try:
            now_s = self._clock.monotonic_s()
            if now_s - self._looked_s >= FOLLOW_EVERY_S:
                self._looked_s = now_s
                for update in self._updates.poll():
                    self._take(update)
            for one in self._arms.values():
                ended = one.settle()
                if ended is not None:
                    self._tell(one, ended)
        finally:
            self._between_batches.release()

    def catch_up(self, limit_s: float) -> None:
        """Follow until what is announced by now answers, was refused, or waits for its next try; for a step that no loop drives."""
        until_s = self._clock.monotonic_s() + limit_s
        self._looked_s = float("-inf")
        self.follow()
        while (self._updates.busy or any(one.busy for one in self._arms.values())) and self._clock.monotonic_s() < until_s:
            self._clock.sleep(0.02)
            self._looked_s = float("-inf")
            self.follow()

    def _take(self, update: ModelUpdate) -> None:
        """An update that is invalid is refused as a whole: what answered stays."""
        if update.model not in self._task.models:
            return
        try:
            arms = announced(update)
        except ModelRefused as refused:
            self._arms[update.model, Arm.LIVE].trouble = f"{update.model}: {refused}"
            self._refuse(
                AnnouncedVersion(update.model, Arm.LIVE, update.version, update.uri, update.digest, update.reason), refused
            )
            return
        for arm in (Arm.LIVE, Arm.CANARY, Arm.SHADOW):
            self._arms[update.model, arm].want(arms.get(arm))

    def _tell(self, one: ModelArm, ended: Ended) -> None:
        if ended.refused is not None:
            self._refuse(ended.what, ended.refused)
        elif one.held is not None:
            self._metrics.add("swaps", 1, outcome="accepted")
            self._log.info(
                "swapped", model=one.model, arm=one.arm, version=ended.what.version, previous=one.held.previous,
                digest=ended.what.digest, reason=ended.what.reason,
            )  # fmt: skip

    def _load(self, what: AnnouncedVersion) -> Loaded:
        return load_update(self._task, what, self._clock)

    def _start(self, model: str, updates: Sequence[ModelUpdate], source: str) -> None:
        """All arms of a model as its history leaves them."""
        history: list[dict[Arm, AnnouncedVersion]] = []
        trouble = ""
        for update in updates:
            try:
                history.append(announced(update))
                trouble = ""
            except ModelRefused as refused:  # told when it came; it was never in force
                trouble = f"{model}: {refused}"
        self._arms[model, Arm.LIVE] = self._first(model, [arms[Arm.LIVE] for arms in history], source)
        self._arms[model, Arm.LIVE].trouble = trouble or self._arms[model, Arm.LIVE].trouble
        for arm in (Arm.CANARY, Arm.SHADOW):
            self._arms[model, arm] = ModelArm(model, arm, self._load, self._clock)
            self._arms[model, arm].want(history[-1].get(arm) if history else None)

    def _first(self, model: str, announced: Sequence[AnnouncedVersion], source: str) -> ModelArm:
        """The newest version of the history that can be loaded, else the source: what the workers beside it answer with, too."""
        failed: list[tuple[AnnouncedVersion, MillraceError]] = []
        held: Loaded | None = None
        for what in reversed(announced):
            if any(what.same_source(before) for before, _ in failed):
                continue
            try:
                held = replace(self._load(what), is_swap=False)
                break
            except MillraceError as error:
                failed.append((what, error))
                self._log.error("version of the history cannot be loaded", model=model, version=what.version, cause=str(error))
        if held is None:
            folder = open_source(source)
            what = AnnouncedVersion(model, Arm.LIVE, folder.version, source, folder.digest, "it was set at the start")
            held = Loaded(what, Version(folder, self._task.load(folder, model)), 0.0, is_swap=False)
        first = ModelArm(model, Arm.LIVE, self._load, self._clock, held)
        if failed:
            newest, why = failed[0]
            first.want(newest)
            if not isinstance(why, RetryLater):
                first.refuse(newest, why)
                self._refuse(newest, why)
        return first

    def _refuse(self, what: AnnouncedVersion, refused: MillraceError) -> None:
        self._metrics.add("swaps", 1, outcome="refused")
        self._log.error(
            "version refused; what answered stays", model=what.model, arm=what.arm, version=what.version, digest=what.digest,
            cause=str(refused),
        )  # fmt: skip
        self._report(self._record(SwapAck(
            model=what.model, version=what.version, digest=what.digest, worker=self._worker, accepted=False,
            reason=str(refused)[:500], arm=what.arm,
        )))  # fmt: skip

    def _record(self, ack: SwapAck) -> OutRecords:
        return self._acks.of(ack, ack.model, uuid7(self._clock.now_ms()))

    def close(self) -> None:
        self._updates.close()


def load_update(task: Task, what: AnnouncedVersion, clock: Clock) -> Loaded:
    """Raises ModelRefused where the source is not what was announced or does not fit the task, RetryLater where it does not answer."""
    started_s = clock.monotonic_s()
    try:
        folder = open_source(what.uri, what.digest)
        if folder.version != what.version or (folder.name != what.model and not folder.huggingface):
            raise ModelRefused(f"{what.uri} is {folder.name} {folder.version}; {what.model} {what.version} was announced")
        version = Version(folder, task.load(folder, what.model), what.arm)
    except MillraceError:
        raise
    except Exception as error:  # a library's own kind, on files that only look right
        raise ModelRefused(f"{what.uri} cannot be loaded: {type(error).__name__}: {error}") from error
    return Loaded(what, version, (clock.monotonic_s() - started_s) * 1000)
