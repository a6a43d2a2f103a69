"""The version of a chat worker whose answers a server computes: always the server's. What `model-updates-v1` announces is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from inference_workers.chat.chat_model import ChatModel
from inference_workers.chat_service.engine_thread import EngineThread
from inference_workers.chat_service.serving import Served, Serving
from inference_workers.models.folder import ModelFolder
from inference_workers.models.unshipped import CHAT_MODEL
from inference_workers.served.announcements import Updates, live_version
from inference_workers.served.served_models import FOLLOW_EVERY_S, START_LIMIT_S
from inference_workers.served.swaps import Swaps
from schemas.errors import ModelRefused
from schemas.generated import ModelUpdate
from streams.clock import Clock
from streams.rows import OutRecords, Rows

WORDS = "a server computes this worker's answers, with the model that it was started with: load the version there"


class ServerVersion:
    """Implements `ChatVersions`. name: of the model at the server; empty for the folder's. trouble: why the server cannot be asked now.
    Raises BrokerUnavailable if the updates cannot be read."""

    def __init__(
        self,
        model: ChatModel,
        folder: ModelFolder,
        name: str,
        updates: Updates,
        swaps: Swaps,
        clock: Clock,
        trouble: Callable[[], str],
    ) -> None:
        name = name or folder.name.rsplit("/", 1)[-1]
        # The folder's version alone would be that of workers which compute themselves: they do not go on with each other's answers.
        served = Served(model, name, f"{folder.version}@{name}", folder.digest)
        self.current = Serving(served, EngineThread(model.engine, clock))
        self._updates, self._swaps, self._clock, self._trouble = updates, swaps, clock, trouble
        self._refused, self._polled_s = "", clock.monotonic_s()
        for update in [one for one in self._updates.history(START_LIMIT_S) if one.model == CHAT_MODEL][-1:]:
            self._refuse(update)

    @property
    def notes(self) -> Sequence[str]:
        return [note[:500] for note in (self._trouble(), self._updates.trouble, self._refused) if note]

    def follow(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._polled_s >= FOLLOW_EVERY_S:
            self._polled_s = now_s
            for update in self._updates.poll():
                self._refuse(update)

    def _refuse(self, update: ModelUpdate) -> None:
        if update.model == CHAT_MODEL:
            self._refused = f"chat {update.version} was announced and refused: {WORDS}"
            self._swaps.refused(live_version(update), ModelRefused(WORDS))

    def acknowledged(self, rows: Rows) -> list[OutRecords]:
        return []

    def close(self) -> None:
        self._updates.close()
