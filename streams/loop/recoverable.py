"""State that a loop keeps beside its offsets: dedupe windows, rings of tiles. It must always be what the committed offsets say.

The loop calls these where it goes to the committed offsets: state is read back before the first poll, and read anew after
an abort, when nobody knows which of its own outputs stayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from streams.broker import Commit
from streams.rows import Place


class State(Protocol):
    def restore(self, positions: Mapping[Place, Commit]) -> None:
        """Become what these committed positions say. May wait, within the group's poll interval. Raises BrokerUnavailable."""
        ...

    def forget(self, places: Iterable[Place]) -> None:
        """These partitions are another's now."""
        ...


class NoState:
    def restore(self, positions: Mapping[Place, Commit]) -> None:
        return

    def forget(self, places: Iterable[Place]) -> None:
        return
