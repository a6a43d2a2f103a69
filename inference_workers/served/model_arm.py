"""One arm of one model: the version that answers, the one that shall, and the way from the first to the second.

A version is loaded beside the one that answers. What was loaded is swapped in only while it is still the one that is wanted;
what cannot be loaded is refused, and what cannot be reached now is tried again after growing pauses.
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
    """previous: name of the version that it followed. is_swap: whether it has to be announced; what a worker starts with has not."""

    wanted: AnnouncedVersion
    version: Version
    loaded_ms: float
    previous: str | None = None
    is_swap: bool = True


@dataclass(frozen=True)
class Ended:
    """A load that came to its end: refused: why, None where the version was swapped in."""

    what: AnnouncedVersion
    refused: MillraceError | None


class ModelArm:
    """`held` changes only inside `settle`, `want` and `drop`, which are called between batches."""

    def __init__(
        self, model: str, arm: str, load: Callable[[AnnouncedVersion], Loaded], clock: Clock, held: Loaded | None = None
    ) -> None:
        self.model, self.arm, self.held = model, arm, held
        self._load = load
        self._target: AnnouncedVersion | None = held.wanted if held is not None else None
        self._loading: tuple[AnnouncedVersion, Future[Loaded]] | None = None
        self._pause = Pause(clock)
        self._given_up: AnnouncedVersion | None = None  # it was refused: not loaded again until somebody announces it again
        self._failed_digest = ""  # of a version that was dropped: not taken up again until the arm was empty
        self._announced: dict[Place, Mark] = {}
        self.trouble = ""  # why what is wanted does not answer, in words

    def want(self, what: AnnouncedVersion | None) -> None:
        """The newest word on this arm; None: it has no version from here on."""
        if what is None:
            self._failed_digest = ""
        elif what.digest == self._failed_digest:
            return
        self._target, self._given_up, self.trouble = what, None, ""
        self._pause.reset()
        if self.held is None:
            return
        if what is not None and what.digest == self.held.wanted.digest:
            self.held = replace(self.held, wanted=what)
        elif self.arm != Arm.LIVE:  # a challenger that is not wanted any more answers nobody while its follower loads
            self._release()

    def drop(self, why: str) -> None:
        """The version that is held failed where another answered: it answers no more, and is not loaded again."""
        if self.held is not None:
            what = self.held.wanted
            self._failed_digest, self._target = what.digest, None
            self.trouble = f"{what.model} {what.version} ({what.arm}) was dropped: {why}"
            self._release()

    def _release(self) -> None:
        if self.held is not None:
            held, self.held = self.held, None
            held.version.backend.close()

    def settle(self) -> Ended | None:
        """One step from what answers to what shall."""
        ended = self._finish()
        target = self._target
        if target is None or (self.held is not None and self.held.wanted.digest == target.digest):
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
        (what, future), self._loading = self._loading, None
        target, error = self._target, future.exception()
        if error is not None:
            return self._ended_in_error(what, error) if target is not None and what.same_source(target) else None
        loaded = future.result()
        if target is None or target.digest != what.digest or (self.held is not None and self.held.wanted.digest == what.digest):
            loaded.version.backend.close()  # it was superseded or withdrawn while it loaded
            return None
        old, self.trouble = self.held, ""
        self.held = replace(loaded, wanted=target, previous=old.version.folder.version if old is not None else None)
        self._announced = {}
        if old is not None:
            old.version.backend.close()
        return Ended(target, None)

    def _ended_in_error(self, what: AnnouncedVersion, error: BaseException) -> Ended | None:
        if isinstance(error, RetryLater):
            self._pause.begin()
            self.trouble = f"{what.model} {what.version} ({what.arm}) was announced and cannot be fetched yet: {error}"
            return None
        refused = error if isinstance(error, MillraceError) else ModelRefused(f"{type(error).__name__}: {error}")
        self.refuse(what, refused)
        return Ended(what, refused)

    def refuse(self, what: AnnouncedVersion, error: MillraceError) -> None:
        """It is not loaded; what answered stays."""
        self._given_up = self._target
        self.trouble = f"{what.model} {what.version} ({what.arm}) was announced and refused: {error}"

    def unannounced(self, rows: Rows, staged: Mapping[Place, Mark]) -> dict[FirstOffset, Mark]:
        """First offsets of partitions for which the swap was not announced yet, or whose announcement was read again because its
        transaction did not happen. staged: announced earlier in the same batch."""
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
