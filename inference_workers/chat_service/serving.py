"""The versions of the model in memory, each with its engine: the newest answers new requests, the others end what they began."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inference_workers.chat.chat_model import ChatModel
from inference_workers.chat.engine import Event
from inference_workers.chat_service.engine_thread import EngineThread
from streams.clock import Clock

OLD_WAIT_S = 0.005  # while two versions answer, neither waits long for the other
OLD_KEPT_S = 60.0  # an old version may be needed again: after a change of the group its answers go on from their tokens


@dataclass(frozen=True)
class Served:
    """A version that answers."""

    model: ChatModel
    name: str
    version: str
    digest: str

    def text_of(self, token: int) -> str:
        return self.model.template.text([token])


@dataclass(eq=False)
class Serving:
    """A version in memory, with the thread that drives its engine. needed_s: when it last was the newest or had an answer; None before
    it answers."""

    served: Served
    thread: EngineThread
    needed_s: float | None = None

    def close(self) -> None:
        """Called by `ModelArm`. A version that answered ends its answers first, and then `Engines` ends the thread; a version that was
        overtaken while it loaded ends here."""
        if self.needed_s is None:
            self.thread.close()


class Engines:
    """The engines of the newest version and of older ones whose answers have not ended."""

    def __init__(self, first: Serving, clock: Clock) -> None:
        self._all, self._clock = [first], clock
        first.needed_s = clock.monotonic_s()

    @property
    def newest(self) -> Serving:
        return self._all[-1]

    def of(self, version: str | None) -> Serving | None:
        return next((serving for serving in self._all if serving.served.version == version), None)

    def events(self, wait_s: float) -> list[Event]:
        """See `EngineThread.events`."""
        *old, newest = [serving.thread for serving in self._all]
        found = [event for thread in old for event in thread.events(0.0)]
        return found + newest.events(0.0 if found else min(wait_s, OLD_WAIT_S) if old else wait_s)

    def follow(self, current: Serving, used: Iterable[Serving]) -> bool:
        """Take the version that answers now; end old ones that nobody has used for OLD_KEPT_S. Returns whether another was taken."""
        now_s, is_new = self._clock.monotonic_s(), current is not self.newest
        if is_new:
            self.newest.needed_s = current.needed_s = now_s
            self._all.append(current)
        if len(self._all) > 1:
            needed = {id(serving) for serving in used} | {id(current)}
            for serving in list(self._all):
                if id(serving) in needed:
                    serving.needed_s = now_s
                elif serving.needed_s is not None and now_s - serving.needed_s > OLD_KEPT_S:
                    self._all.remove(serving)
                    serving.thread.close()
        return is_new

    def working_since_s(self) -> float | None:
        since = (serving.thread.working_since_s for serving in self._all)
        return min((one for one in since if one is not None), default=None)

    def close(self) -> None:
        for serving in self._all:
            serving.thread.close()
