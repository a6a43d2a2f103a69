"""Which versions of each model answer: announced on `model-updates-v1`, loaded in the background, swapped between batches.

The topic is authoritative. A version that cannot be loaded is refused, and the old one goes on answering, in a restarted worker
too. Both outcomes are acknowledged on `swap-acks-v1`. A swap is acknowledged in the transaction of the new version's first batch,
with the first offset of each partition.

Besides the live version, a canary may answer a share of the keys, and a shadow may predict for a share of the requests without
answering. No request loses its answer through either: a canary that fails on a batch is dropped, and the live version answers.

A task does without an optional model until a setting or an update names a version of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock

from inference_workers.served.announcements import AnnouncedVersion, Updates, live_version, versions_by_arm
from inference_workers.served.batch_versions import Batch
from inference_workers.served.model_arm import Loaded, ModelArm
from inference_workers.served.swaps import Swaps
from inference_workers.served.version_loading import configured, live_arm, load_version
from inference_workers.task import Task, Version, Versions, optional_models
from schemas.codec import SchemaIds
from schemas.errors import ModelRefused
from schemas.generated import ModelUpdate
from schemas.vocabulary import Arm
from streams.broker import Broadcast
from streams.clock import Clock
from streams.loop.processor import Report
from streams.metrics import Metrics
from streams.rows import OutRecords, Rows

FOLLOW_EVERY_S = 0.2
START_LIMIT_S = 30.0
OFF = "off"  # in place of an address: the worker does without this optional model, whatever is announced


class ServedModels:
    """All models of a task, kept at the versions that the topic announces."""

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
        complete: Callable[[Version], None] = lambda version: None,
    ) -> None:
        """sources: addresses of the versions to start with, by model, instead of those of the task. An optional model without an address
        has no version until one is announced; with OFF it never has. report: writes acknowledgements of refused versions. complete: gives a version that was
        loaded what a folder cannot hold, before it answers; it may run on another thread. Raises
        ModelRefused if no version of a model can be loaded, BrokerUnavailable if the updates cannot be read."""
        self._task, self._clock, self._complete = task, clock, complete
        self._swaps = Swaps(registry, clock, worker, metrics, report)
        self._between_batches = Lock()
        self._polled_s = 0.0
        self._updates = Updates(updates, registry, clock, metrics)
        self._arms: dict[tuple[str, str], ModelArm] = {}
        history, chosen = self._updates.history(START_LIMIT_S), sources or {}
        first = {model: chosen.get(model, source) for model, source in task.models.items()}
        first |= {model: chosen.get(model, "") for model in optional_models(task) if chosen.get(model) != OFF}
        for model, source in first.items():
            self._start(model, [update for update in history if update.model == model], source)

    # --- what answers -------------------------------------------------------------------------------------------

    @property
    def current(self) -> Versions:
        """The live version of each model."""
        return {loaded.announced.model: loaded.version for loaded in self._loaded(Arm.LIVE)}

    def _loaded(self, name: str) -> list[Loaded]:
        return [arm.held for arm in self._arms.values() if arm.arm == name and arm.held is not None]

    def report(self) -> Report:
        """The versions and digests that answer. notes: why announced versions do not answer."""
        current = self.current
        troubles = [self._updates.trouble, *(arm.trouble for arm in self._arms.values())]
        return Report(
            versions={model: version.folder.version for model, version in current.items()},
            digests={model: version.folder.digest for model, version in current.items()},
            notes=[trouble[:500] for trouble in troubles if trouble],
        )

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """The versions for a batch. No version is swapped while the batch runs, on any thread. Its announcements count only if it
        ends without an error."""
        with self._between_batches:
            batch = Batch(self.current, self._loaded(Arm.CANARY), self._loaded(Arm.SHADOW))
            try:
                yield batch
                for key, marks in batch.marks.items():
                    self._arms[key].announced(marks)
            finally:
                self._drop_failed(batch)

    def _drop_failed(self, batch: Batch) -> None:
        for arm in self._arms.values():
            if arm.arm == Arm.LIVE or arm.held is None:
                continue
            announced = arm.held.announced
            error = batch.failures.get(announced.digest)
            if error is not None:
                cause = f"it failed on a batch that the live version answered: {type(error).__name__}: {error}"
                arm.drop(cause)
                self._swaps.refused(announced, ModelRefused(cause))

    def announcements(self, batch: Batch, rows: Rows, versions: Versions) -> list[OutRecords]:
        """Acknowledgements of the last swaps for the transaction of these rows, which these versions answered."""
        acks = []
        for key, arm in self._arms.items():
            if arm.held is None or versions.get(arm.model) is not arm.held.version:
                continue
            staged = batch.marks.setdefault(key, {})
            first = arm.unannounced(rows, staged)
            if first:
                staged.update({(at.topic, at.partition): mark for at, mark in first.items()})
                acks.append(self._swaps.first_batch(arm.held, first))
        return acks

    # --- following the topic ------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Take one step towards the announced versions, without waiting. Does nothing while a batch runs on another thread."""
        if not self._between_batches.acquire(blocking=False):
            return
        try:
            now_s = self._clock.monotonic_s()
            if now_s - self._polled_s >= FOLLOW_EVERY_S:
                self._polled_s = now_s
                for update in self._updates.poll():
                    self._take(update)
            for arm in self._arms.values():
                ended = arm.settle()
                if ended is not None:
                    self._swaps.ended(ended, arm.held)
        finally:
            self._between_batches.release()

    def catch_up(self, limit_s: float) -> None:
        """Follow until each version that is announced now answers, was refused, or waits for its next try. Meant for a step
        outside a loop. Waits at most `limit_s`."""
        until_s = self._clock.monotonic_s() + limit_s
        self._polled_s = float("-inf")
        self.follow()
        while (self._updates.busy or any(arm.busy for arm in self._arms.values())) and self._clock.monotonic_s() < until_s:
            self._clock.sleep(0.02)
            self._polled_s = float("-inf")
            self.follow()

    def _take(self, update: ModelUpdate) -> None:
        """Refuses an invalid update as a whole; then the old versions go on answering."""
        if (update.model, Arm.LIVE) not in self._arms:
            return
        try:
            arms = versions_by_arm(update)
        except ModelRefused as refused:
            self._arms[update.model, Arm.LIVE].trouble = f"{update.model}: {refused}"
            self._swaps.refused(live_version(update), refused)
            return
        for arm in (Arm.LIVE, Arm.CANARY, Arm.SHADOW):
            self._arms[update.model, arm].want(arms.get(arm))

    def _load(self, announced: AnnouncedVersion) -> Loaded:
        loaded = load_version(self._task, announced, self._clock)
        self._complete(loaded.version)
        return loaded

    def _start(self, model: str, updates: Sequence[ModelUpdate], source: str) -> None:
        """Create all arms of a model, in the state that follows from the history of its updates. source: empty if the model is
        optional and no address names a version."""
        history: list[dict[Arm, AnnouncedVersion]] = []
        trouble = ""
        for update in updates:
            try:
                history.append(versions_by_arm(update))
                trouble = ""
            except ModelRefused as refused:  # refused and acknowledged when it arrived, so it never took effect
                trouble = f"{model}: {refused}"
        announced = [arms[Arm.LIVE] for arms in history]
        self._arms[model, Arm.LIVE] = live_arm(
            model, announced, self._load, lambda: self._configured(model, source), self._clock, self._swaps
        )
        self._arms[model, Arm.LIVE].trouble = trouble or self._arms[model, Arm.LIVE].trouble
        for arm in (Arm.CANARY, Arm.SHADOW):
            self._arms[model, arm] = ModelArm(model, arm, self._load, self._clock)
            self._arms[model, arm].want(history[-1].get(arm) if history else None)

    def _configured(self, model: str, source: str) -> Loaded | None:
        """The version at this address; None if there is no address."""
        if not source:
            return None
        loaded = configured(self._task, model, source)
        self._complete(loaded.version)
        return loaded

    def close(self) -> None:
        self._updates.close()
