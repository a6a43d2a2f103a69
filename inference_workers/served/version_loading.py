"""Loads announced versions, and chooses the version that a worker starts with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from inference_workers.served.announcements import AnnouncedVersion
from inference_workers.served.model_arm import Loaded, ModelArm
from inference_workers.served.swaps import Swaps
from inference_workers.task import Task, loaded
from schemas.errors import MillraceError, RetryLater
from schemas.vocabulary import Arm
from streams.clock import Clock


def load_version(task: Task, announced: AnnouncedVersion, clock: Clock) -> Loaded:
    """Raises ModelRefused if the source is not the announced version or does not fit the task, RetryLater if it does not
    answer."""
    started_s = clock.monotonic_s()
    version = loaded(task, announced.model, announced.uri, announced.digest, announced.version, announced.arm)
    return Loaded(announced, version, (clock.monotonic_s() - started_s) * 1000)


def newest_loadable(
    history: Sequence[AnnouncedVersion], load: Callable[[AnnouncedVersion], Loaded]
) -> tuple[Loaded | None, list[tuple[AnnouncedVersion, MillraceError]]]:
    """The newest version of the history that can be loaded, if any, and the newer versions with their errors, newest first."""
    failed: list[tuple[AnnouncedVersion, MillraceError]] = []
    for announced in reversed(history):
        if any(announced.same_source(earlier) for earlier, _ in failed):
            continue
        try:
            return replace(load(announced), is_swap=False), failed
        except MillraceError as error:
            failed.append((announced, error))
            structlog.get_logger().error(
                "announced version cannot be loaded", model=announced.model, version=announced.version, cause=str(error)
            )
    return None, failed


def live_arm(
    model: str,
    history: Sequence[AnnouncedVersion],
    load: Callable[[AnnouncedVersion], Loaded],
    otherwise: Callable[[], Loaded | None],
    clock: Clock,
    swaps: Swaps,
) -> ModelArm:
    """The live arm at the newest version of the history that can be loaded, otherwise at the version that `otherwise` returns, if any. So
    all workers start with the same version."""
    loaded, failed = newest_loadable(history, load)
    arm = ModelArm(model, Arm.LIVE, load, clock, loaded or otherwise())
    if failed:
        newest, error = failed[0]
        arm.want(newest)
        if not isinstance(error, RetryLater):
            arm.refuse(newest, error)
            swaps.refused(newest, error)
    return arm


def configured(task: Task, model: str, source: str) -> Loaded:
    """The version that the worker was started with. Raises ModelRefused and RetryLater."""
    version = loaded(task, model, source)
    folder = version.folder
    announced = AnnouncedVersion(model, Arm.LIVE, folder.version, source, folder.digest, "configured at the start")
    return Loaded(announced, version, 0.0, is_swap=False)
