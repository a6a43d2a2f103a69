"""Reads updates of models from `model-updates-v1`: in order, skipping only values that can never be decoded.

A value whose schema the registry does not return now is kept, with all values after it, and tried again after growing pauses.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import TypeVar

import structlog

from schemas.codec import Decoder, SchemaIds
from schemas.errors import BrokerUnavailable, ModelRefused, RetryLater
from schemas.generated import ModelUpdate
from schemas.topics import MODEL_UPDATES
from schemas.vocabulary import Arm
from streams.broker import Broadcast
from streams.clock import Clock
from streams.metrics import Metrics

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


@dataclass(frozen=True)
class AnnouncedVersion:
    """A version that an update announces for one arm of a model. share, salt: which keys a challenger answers."""

    model: str
    arm: str
    version: str
    uri: str
    digest: str
    reason: str
    share: float = 1.0
    salt: str = ""

    def same_source(self, other: AnnouncedVersion) -> bool:
        return (self.version, self.uri, self.digest) == (other.version, other.uri, other.digest)


def live_version(update: ModelUpdate) -> AnnouncedVersion:
    """What an update says of the live arm, valid or not."""
    return AnnouncedVersion(update.model, Arm.LIVE, update.version, update.uri, update.digest, update.reason)


def versions_by_arm(update: ModelUpdate) -> dict[Arm, AnnouncedVersion]:
    """The announced versions. An arm that is absent has no version from this update on. Raises ModelRefused if any part of the
    update is invalid: then the whole update is refused."""
    arms = {Arm.LIVE: live_version(update)}
    for challenger in update.challengers:
        if challenger.arm not in (Arm.CANARY, Arm.SHADOW):
            raise ModelRefused(f"the update is invalid: arm {challenger.arm!r} is not {Arm.CANARY} or {Arm.SHADOW}")
        arm = Arm(challenger.arm)
        if arm in arms:
            raise ModelRefused(f"the update is invalid: it names two versions as {arm}")
        if not (math.isfinite(challenger.share) and 0 < challenger.share <= 1):
            raise ModelRefused(
                f"the update is invalid: the share of {arm} is {challenger.share}; it must be greater than 0 and at most 1"
            )
        arms[arm] = AnnouncedVersion(
            update.model,
            arm,
            challenger.version,
            challenger.uri,
            challenger.digest,
            update.reason,
            challenger.share,
            challenger.salt,
        )
    for arm, announced in arms.items():
        if not announced.version or not announced.uri:
            raise ModelRefused(f"the update is invalid: {arm} has no {'URI' if announced.version else 'version'}")
        if not _SHA256.fullmatch(announced.digest):
            raise ModelRefused(
                f"the update is invalid: {arm} has digest {announced.digest[:80]!r}; it must be a sha256, 64 hexadecimal digits"
            )
    return arms


def in_background(work: Callable[[], T]) -> Future[T]:
    """Runs `work` on its own daemon thread, which does not keep the process alive."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


class Pause:
    """The pause before the next try of something that may recover: twice as long each time, up to LONGEST_PAUSE_S."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        self._next_s, self._until_s = FIRST_PAUSE_S, float("-inf")

    def begin(self) -> None:
        self._until_s = self._clock.monotonic_s() + self._next_s
        self._next_s = min(LONGEST_PAUSE_S, 2 * self._next_s)

    def over(self) -> bool:
        return self._clock.monotonic_s() >= self._until_s


class Updates:
    """All updates of the topic. trouble: why the next one cannot be read now, as a sentence; empty if none waits."""

    def __init__(self, topic: Broadcast, registry: SchemaIds, clock: Clock, metrics: Metrics) -> None:
        self._topic, self._clock, self._metrics = topic, clock, metrics
        self._decoder = Decoder.of(MODEL_UPDATES, registry)
        self._waiting: deque[bytes | None] = deque()
        self._reading: Future[tuple[list[ModelUpdate], int, RetryLater | None]] | None = None
        self._pause = Pause(clock)
        self._log = structlog.get_logger()
        self.trouble = ""

    def history(self, limit_s: float) -> list[ModelUpdate]:
        """All updates up to now, oldest first. Raises BrokerUnavailable if the broker or the registry does not answer in
        `limit_s`."""
        until_s = self._clock.monotonic_s() + limit_s
        values = self._topic.read_to_end(limit_s).values
        while True:
            updates, _, error = self._read(values)
            if error is None:
                return updates
            if self._clock.monotonic_s() >= until_s:
                raise BrokerUnavailable(f"the history of model updates cannot be read: {error}") from error
            self._clock.sleep(FIRST_PAUSE_S)

    def poll(self) -> list[ModelUpdate]:
        """Updates that became readable since the last call, without waiting. Raises BrokerUnavailable if the topic was
        truncated."""
        self._waiting.extend(self._topic.poll().values)
        updates: list[ModelUpdate] = []
        if self._reading is not None and self._reading.done():
            (updates, count, error), self._reading = self._reading.result(), None
            for _ in range(count):
                self._waiting.popleft()
            if error is None:
                self.trouble = ""
                self._pause.reset()
            else:
                self.trouble = f"a model update cannot be read yet: {error}"
                self._pause.begin()
                self._log.warning("model update cannot be read yet; it is tried again", cause=str(error))
        if self._waiting and self._reading is None and self._pause.over():
            values = list(self._waiting)
            self._reading = in_background(lambda: self._read(values))
        return updates

    @property
    def busy(self) -> bool:
        return self._reading is not None

    def _read(self, values: Sequence[bytes | None]) -> tuple[list[ModelUpdate], int, RetryLater | None]:
        """Updates up to the first that cannot be read now, the number of values read, and the error that stopped it, if any."""
        updates: list[ModelUpdate] = []
        for number, value in enumerate(values):
            try:
                columns, failures = self._decoder.decode([value])
                if failures:
                    raise failures[0]
                updates += [ModelUpdate.from_dict(record) for record in columns.records()]
            except RetryLater as error:
                return updates, number, error
            except Exception as error:  # these bytes can never be decoded
                self._metrics.add("updates_unreadable", 1)
                self._log.error("model update skipped: it can never be read", cause=f"{type(error).__name__}: {error}")
        return updates, len(values), None

    def close(self) -> None:
        self._topic.close()
