"""Keeps the registry's alias `champion` in line with `model-updates-v1`: the topic is written first, the alias follows.

After a crash between the two writes, the next process that runs repairs the alias; it also repairs an alias that somebody moved
by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from schemas.codec import SchemaIds
from schemas.errors import BrokerUnavailable
from schemas.generated import ModelUpdate
from streams.broker import Broadcast
from streams.clock import Clock
from training_triggers.versions.compare_and_set import READ_LIMIT_S, followed

EVERY_S = 2.0


class Registered(Protocol):
    @property
    def number(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def champion(self) -> bool: ...


class Aliases(Protocol):
    def versions(self, name: str) -> Sequence[Registered]: ...

    def set_champion(self, name: str, number: str | None) -> None: ...


def repair(aliases: Aliases, last: dict[str, ModelUpdate]) -> list[str]:
    """Move each alias that differs from the topic; returns the moves in words."""
    moved = []
    for name, update in last.items():
        versions = aliases.versions(name)
        wanted = next((one.number for one in versions if one.digest == update.digest), None)
        held = next((one.number for one in versions if one.champion), None)
        if versions and wanted != held:
            aliases.set_champion(name, wanted)
            moved.append(f"{name}: champion {held or 'none'} is now {wanted or 'none'}")
    return moved


def run(aliases: Aliases, broadcast: Broadcast, ids: SchemaIds, clock: Clock, stopping: Callable[[], bool], once: bool) -> None:
    """Repair now and, unless `once`, every EVERY_S, since aliases are also moved by hand. If the registry does not answer, it is
    asked again."""
    log = structlog.get_logger()
    topic = followed(broadcast, ids)
    last = {update.model: update for update in topic.read_to_end(READ_LIMIT_S)}
    while True:
        try:
            for words in repair(aliases, last):
                log.info("alias repaired", what=words)
        except BrokerUnavailable as error:
            if once:
                raise
            log.warning("the registry does not answer", cause=str(error))
        if once:
            return
        until_s = clock.monotonic_s() + EVERY_S
        while clock.monotonic_s() < until_s:
            if stopping():
                return
            clock.sleep(0.2)
        last |= {update.model: update for update in topic.poll()}
