"""One arm of one model: the version that answers, the version that is announced, and the steps from the first to the second.

The announced version is loaded in the background, and swapped in only if it is still announced then. A version that cannot be
loaded is refused. A version that cannot be reached now is tried again after growing pauses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace

from inference_workers.served.announcements import AnnouncedVersion, Pause, in_background
from inference_workers.task import Version
from schemas.errors import MillraceError, ModelRefused, RetryLater
from schemas.generated import FirstOffset
from schemas.vocabulary import Arm
from streams.clock import Clock
from streams.rows import Place, Rows

Mark = tuple[int, int]  # epoch and offset of an announcement


@dataclass(frozen=True)
class Loaded:
    """A version in memory. previous: the version that it replaced. is_swap: whether it must be acknowledged; False for the
    version that a worker starts with."""

    announced: AnnouncedVersion
    version: Version
    loaded_ms: float
    previous: str | None = None
    is_swap: bool = True


@dataclass(frozen=True)
class Ended:
    """A load that ended. refused: why the version was refused; None if it was swapped in."""

    announced: AnnouncedVersion
    refused: MillraceError | None


class ModelArm:
    """held: the loaded version that answers. It changes only inside `settle`, `want` and `drop`, which are called between
    batches. trouble: why the announced version does not answer, as a sentence."""

    def __init__(
        self, model: str, arm: str, load: Callable[[AnnouncedVersion], Loaded], clock: Clock, held: Loaded | None = None
    ) -> None:
        self.model, self.arm, self.held = model, arm, held
        self._load = load
        self._target: AnnouncedVersion | None = held.announced if held is not None else None
        self._loading: tuple[AnnouncedVersion, Future[Loaded]] | None = None
        self._pause = Pause(clock)
        self._given_up: AnnouncedVersion | None = None  # refused: not loaded again until it is announced again
        self._failed_digest = ""  # digest of a dropped version, which is not loaded again until the arm was empty
        self._announced: dict[Place, Mark] = {}
        self.trouble = ""

    def want(self, announced: AnnouncedVersion | None) -> None:
        """Make this the version to load and swap in. None means that the arm has no version from now on."""
        if announced is None:
            self._failed_digest = ""
        elif announced.digest == self._failed_digest:
            return
        self._target, self._given_up, self.trouble = announced, None, ""
        self._pause.reset()
        if self.held is None:
            return
        if announced is not None and announced.digest == self.held.announced.digest:
            self.held = replace(self.held, announced=announced)
        elif self.arm != Arm.LIVE:  # a challenger that was withdrawn stops answering before its successor is loaded
            self._release()

    def drop(self, cause: str) -> None:
        """Stop answering with the loaded version, which failed on a batch that the live version answered, and do not load it
        again."""
        if self.held is not None:
            announced = self.held.announced
            self._failed_digest, self._target = announced.digest, None
            self.trouble = f"{_name(announced)} was dropped: {cause}"
            self._release()

    def _release(self) -> None:
        if self.held is not None:
            held, self.held = self.held, None
            held.version.backend.close()

    def settle(self) -> Ended | None:
        """Take one step towards the announced version: swap in a loaded version, or start a load. Does not wait."""
        ended = self._finish()
        target = self._target
        if target is None or (self.held is not None and self.held.announced.digest == target.digest):
            return ended
        if self._loading is None and target != self._given_up and self._pause.over():
            self._loading = target, in_background(lambda: self._load(target))
        return ended

    @property
    def busy(self) -> bool:
        return self._loading is not None

    def _finish(self) -> Ended | None:
        if self._loading is None or not self._loading[1].done():
            return None
        (announced, future), self._loading = self._loading, None
        target, error = self._target, future.exception()
        if error is not None:
            return self._ended_in_error(announced, error) if target is not None and announced.same_source(target) else None
        loaded, digest = future.result(), announced.digest
        if target is None or target.digest != digest or (self.held is not None and self.held.announced.digest == digest):
            loaded.version.backend.close()  # superseded or withdrawn while it loaded
            return None
        old, self.trouble = self.held, ""
        self.held = replace(loaded, announced=target, previous=old.version.folder.version if old is not None else None)
        self._announced = {}
        if old is not None:
            old.version.backend.close()
        return Ended(target, None)

    def _ended_in_error(self, announced: AnnouncedVersion, error: BaseException) -> Ended | None:
        if isinstance(error, RetryLater):
            self._pause.begin()
            self.trouble = f"{_name(announced)} was announced and cannot be fetched yet: {error}"
            return None
        refused = error if isinstance(error, MillraceError) else ModelRefused(f"{type(error).__name__}: {error}")
        self.refuse(announced, refused)
        return Ended(announced, refused)

    def refuse(self, announced: AnnouncedVersion, error: MillraceError) -> None:
        """Do not load this version; the old one goes on answering."""
        self._given_up = self._target
        self.trouble = f"{_name(announced)} was announced and refused: {error}"

    def unannounced(self, rows: Rows, staged: Mapping[Place, Mark]) -> dict[FirstOffset, Mark]:
        """First offsets of the partitions for which the swap is not acknowledged yet, or whose acknowledgement was lost with its
        transaction. staged: acknowledgements from earlier in the same batch."""
        first: dict[FirstOffset, Mark] = {}
        if self.held is None or not self.held.is_swap:
            return first
        for place, (low, _) in rows.spans().items():
            epoch, offset = staged.get(place) or self._announced.get(place, (-1, -1))
            if epoch < 0 or low < offset or (epoch != rows.epoch and low == offset):
                first[FirstOffset(topic=place[0], partition=place[1], offset=low)] = (rows.epoch, low)
        return first

    def announced(self, marks: Mapping[Place, Mark]) -> None:
        self._announced.update(marks)


def _name(announced: AnnouncedVersion) -> str:
    return f"{announced.model} {announced.version} ({announced.arm})"
