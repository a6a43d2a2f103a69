"""Chat workers as processes, with a tiny model of random weights, that tests kill and freeze."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.stage import Worker
from tests.conftest import Servers
from tests.support.tiny_llama import tiny_llama

CONTEXT_TOKENS = 4_096


class ChatWorkers:
    """Each has a slot of its own."""

    def __init__(self, servers: Servers, model: Path | None = None, **env: str) -> None:
        self._servers, self._model, self._env = servers, model or servers.folder / "chat-model", env
        if not self._model.exists():
            tiny_llama(self._model, max_position_embeddings=CONTEXT_TOKENS)
        self.all: list[Worker] = []

    def start(self) -> Worker:
        slot = len(self.all)
        settings = {"MILLRACE_CHAT_MODEL": f"file:{self._model}", **self._env}
        log = self._servers.folder / f"chat-{slot}.log"
        self.all.append(Worker(self._servers.bootstrap, self._servers.registry, log, slot, ("chat",), **settings))
        return self.all[-1]

    @property
    def newest(self) -> Worker:
        return self.all[-1]

    @property
    def alive(self) -> list[Worker]:
        return [worker for worker in self.all if worker.process.poll() is None]

    def stop(self) -> None:
        for worker in self.all:
            worker.stop()
