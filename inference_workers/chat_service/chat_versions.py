"""Which version answers chats: the one that `model-updates-v1` announces, loaded beside the old one, which ends what it began.

There is one model of a chat worker in those updates, `chat`. It has a live version only. A canary would need a rule by which two
versions share conversations, and a shadow would compute every answer twice and be compared by nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import structlog

from inference_workers.chat.chat_model import ChatModel
from inference_workers.chat_service.engine_thread import EngineThread
from inference_workers.chat_service.serving import Served, Serving
from inference_workers.models.addresses import open_source
from inference_workers.models.folder import ModelFolder
from inference_workers.models.unshipped import CHAT_MODEL
from inference_workers.served.announcements import AnnouncedVersion, Updates, live_version, versions_by_arm
from inference_workers.served.model_arm import Loaded, ModelArm
from inference_workers.served.served_models import FOLLOW_EVERY_S, START_LIMIT_S
from inference_workers.served.swaps import Swaps
from inference_workers.served.version_loading import live_arm
from inference_workers.task import Version
from schemas.codec import SchemaIds
from schemas.errors import MillraceError, ModelRefused
from schemas.generated import ModelUpdate
from schemas.vocabulary import Arm
from streams.broker import Broadcast
from streams.clock import Clock
from streams.metrics import Metrics
from streams.rows import OutRecords, Rows

LIVE_ONLY = "chat has a live version only: canaries and shadows of it are not loaded"

Load = Callable[[ModelFolder], ChatModel]


class ChatVersions(Protocol):
    @property
    def current(self) -> Serving:
        """What answers new requests."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Why an announced version does not answer."""
        ...

    def follow(self) -> None:
        """Take one step towards the announced version, without waiting. `current` changes only here."""
        ...

    def acknowledged(self, rows: Rows) -> list[OutRecords]:
        """The acknowledgement of the last swap, with the first batch that the new version answers."""
        ...

    def close(self) -> None: ...


class AnnouncedVersions:
    """Implements `ChatVersions`. source: the address of the version to start with, if none is announced. report: writes
    acknowledgements of refused versions. Raises ModelRefused if no version can be loaded, BrokerUnavailable if the updates cannot be
    read."""

    def __init__(
        self,
        updates: Broadcast,
        registry: SchemaIds,
        clock: Clock,
        worker: str,
        metrics: Metrics,
        report: Callable[[OutRecords], None],
        load: Load,
        source: str,
    ) -> None:
        self._clock, self._load_model = clock, load
        self._swaps = Swaps(registry, clock, worker, metrics, report)
        self._updates = Updates(updates, registry, clock, metrics)
        self._polled_s = clock.monotonic_s()
        self._challengers = False
        self._arm = self._first(self._updates.history(START_LIMIT_S), source)

    def _first(self, history: Sequence[ModelUpdate], source: str) -> ModelArm:
        announced = []
        for update in history:
            try:
                announced += self._announced(update)
            except ModelRefused as refused:  # it was refused when it came, so it never took effect
                structlog.get_logger().warning("an update of chat is invalid", cause=str(refused))
        return live_arm(CHAT_MODEL, announced, self._load, lambda: self._configured(source), self._clock, self._swaps)

    def _configured(self, source: str) -> Loaded:
        folder = open_source(source)
        version = AnnouncedVersion(CHAT_MODEL, Arm.LIVE, folder.version, source, folder.digest, "configured at the start")
        return replace(self._loaded(version, folder), is_swap=False)

    def _announced(self, update: ModelUpdate) -> list[AnnouncedVersion]:
        """Raises ModelRefused if the update is invalid."""
        if update.model != CHAT_MODEL:
            return []
        arms = versions_by_arm(update)
        self._challengers = len(arms) > 1
        return [arms[Arm.LIVE]]

    def _load(self, announced: AnnouncedVersion) -> Loaded:
        """Raises ModelRefused, RetryLater."""
        started_s = self._clock.monotonic_s()
        folder = open_source(announced.uri, announced.digest)
        if folder.version != announced.version:
            raise ModelRefused(f"{announced.uri} is version {folder.version}; chat {announced.version} was announced")
        loaded = self._loaded(announced, folder)
        return replace(loaded, loaded_ms=(self._clock.monotonic_s() - started_s) * 1000)

    def _loaded(self, announced: AnnouncedVersion, folder: ModelFolder) -> Loaded:
        try:
            model = self._load_model(folder)
        except MillraceError:
            raise
        except Exception as error:  # of a library, about files that only look valid
            raise ModelRefused(f"{announced.uri} cannot be loaded: {type(error).__name__}: {str(error)[:400]}") from error
        served = Served(model, _name(folder), folder.version, folder.digest)
        serving = Serving(served, EngineThread(model.engine, self._clock))
        return Loaded(announced, Version(folder, serving), 0.0)

    @property
    def current(self) -> Serving:
        assert self._arm.held is not None
        serving = self._arm.held.version.backend
        assert isinstance(serving, Serving)
        return serving

    @property
    def notes(self) -> Sequence[str]:
        troubles = (self._updates.trouble, self._arm.trouble, LIVE_ONLY if self._challengers else "")
        return [trouble[:500] for trouble in troubles if trouble]

    def follow(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._polled_s >= FOLLOW_EVERY_S:
            self._polled_s = now_s
            for update in self._updates.poll():
                self._take(update)
        if (ended := self._arm.settle()) is not None:
            self._swaps.ended(ended, self._arm.held)

    def _take(self, update: ModelUpdate) -> None:
        """Refuses an invalid update as a whole; then the old version goes on answering."""
        try:
            for announced in self._announced(update):
                self._arm.want(announced)
        except ModelRefused as refused:
            self._arm.trouble = f"chat: {refused}"
            self._swaps.refused(live_version(update), refused)

    def acknowledged(self, rows: Rows) -> list[OutRecords]:
        held, first = self._arm.held, self._arm.unannounced(rows, {})
        if held is None or not first:
            return []
        self._arm.announced({(at.topic, at.partition): mark for at, mark in first.items()})
        return [self._swaps.first_batch(held, first)]

    def close(self) -> None:
        self._updates.close()


def _name(folder: ModelFolder) -> str:
    """A local checkpoint is named after its folder: callers have no use for the path."""
    return Path(folder.name).name if Path(folder.name).is_absolute() else folder.name
