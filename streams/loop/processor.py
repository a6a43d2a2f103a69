"""The seam between the loop and the work: a processor takes batches of rows and ends each row. Everything but `process` has a default.

`streams.loop.step.BatchStep` runs one. State that a processor keeps beside its offsets (dedupe windows, rings of tiles) must always be
what the committed offsets say: the loop calls `restore` before the first poll and after each aborted transaction, because then nobody
knows which of its own outputs stayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streams.broker import Commit
from streams.loop.outcome import Outcome
from streams.rows import OutRecords, Place, Rows


@dataclass(frozen=True, slots=True)
class Report:
    """What a processor adds to the status of its loop. versions, digests: by model. notes: what keeps it from its work, in words."""

    versions: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Periodic(Protocol):
    """Work between batches: following a topic, a status report, cleaning."""

    def tick(self) -> None:
        """Called once a round of the loop, at least every idle wait. Must return soon. Raises Stop where the process cannot go on."""
        ...


class Hooks(Protocol):
    """What the loop asks of a processor, and of the step that runs it, beside the work itself. Each has a default."""

    def answer(self, rows: Rows, status: str, code: str, message: str) -> list[OutRecords]:
        """Records that tell the callers of these rows why they get no result; none where nobody waits for one."""
        return []

    def joined(self, generation: int) -> None:
        """The generation of the group in which the next rows are read; called before `restore`."""
        return

    def restore(self, positions: Mapping[Place, Commit]) -> None:
        """Become what these committed positions say. May wait, within the group's poll interval. Raises BrokerUnavailable."""
        return

    def forget(self, places: Iterable[Place]) -> None:
        """These partitions belong to another member now."""
        return

    def tick(self) -> None:
        """See `Periodic.tick`."""
        return

    def report(self) -> Report:
        return Report()

    def close(self) -> None:
        return


class Processor(Hooks, Protocol):
    """Subclass it explicitly to get the defaults of `Hooks`."""

    def process(self, rows: Rows) -> list[Outcome]:
        """Each row ends exactly once. An exception is the fate of the rows that cause it: the batch is halved until they are alone."""
        ...


def keeps_state(processor: Processor) -> bool:
    """Whether it has state beside its offsets: then its batches stay on the loop's own thread. A batch that ran on past a change of the
    group would write into what was restored meanwhile."""
    return type(processor).restore is not Hooks.restore
