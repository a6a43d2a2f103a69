"""Interprets the updates of one model, oldest first: which version answered before which, since when, and who set the versions
beside it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from schemas.generated import Challenger, ModelUpdate
from schemas.vocabulary import Purpose, UpdateKind


def of(model: str, written: Sequence[ModelUpdate]) -> list[ModelUpdate]:
    return [one for one in written if one.model == model]


def ladder(updates: Sequence[ModelUpdate]) -> list[ModelUpdate]:
    """The promotions in force, each above the one before; the shipped version is below them all. A rollback removes all
    promotions above the one it brought back, so that the next rollback goes one further down, and none goes up again."""
    steps: list[ModelUpdate] = []
    for one in updates:
        if one.kind == UpdateKind.ROLLBACK:
            while steps and steps[-1].digest != one.digest:
                steps.pop()
        elif one.kind != UpdateKind.CHALLENGE and (not steps or steps[-1].digest != one.digest):
            steps.append(one)
    return steps


def turned(updates: Sequence[ModelUpdate]) -> tuple[ModelUpdate | None, ModelUpdate]:
    """The update of the version before the live one (None if that was the shipped one), and the update with which the live
    version took over."""
    for was, now in reversed(list(pairwise(updates))):
        if was.digest != now.digest:
            return was, now
    return None, updates[0]


def beside(update: ModelUpdate, arm: str) -> Challenger | None:
    return next((one for one in update.challengers if one.arm == arm), None)


def watcher(update: ModelUpdate) -> Challenger | None:
    """The version before, in whichever arm it watches."""
    return next((one for one in update.challengers if one.purpose == Purpose.WATCH), None)


def set_ms(updates: Sequence[ModelUpdate], challenger: Challenger) -> int:
    """The time since which the last update's challenger is beside the live version."""
    at_ms = updates[-1].decided_ms
    for one in reversed(updates):
        if challenger not in one.challengers:
            break
        at_ms = one.decided_ms
    return at_ms


def of_people(update: ModelUpdate, digest: str) -> tuple[Challenger, ...]:
    """The versions that a person set beside the live one, except the one that is live from now on."""
    return tuple(one for one in update.challengers if not one.purpose and one.digest != digest)


def names(update: ModelUpdate, digest: str) -> bool:
    return digest == update.digest or any(one.digest == digest for one in update.challengers)
