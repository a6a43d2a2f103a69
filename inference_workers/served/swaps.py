"""What becomes of announced versions: counted, logged, and acknowledged on `swap-acks-v1`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from inference_workers.served.announcements import AnnouncedVersion
from inference_workers.served.model_arm import Ended, Loaded
from schemas.codec import SchemaIds
from schemas.errors import MillraceError
from schemas.generated import FirstOffset, SwapAck
from schemas.topics import SWAP_ACKS
from streams.clock import Clock
from streams.ids import uuid7
from streams.metrics import Metrics
from streams.record_writer import RecordWriter
from streams.rows import OutRecords


class Swaps:
    """report: writes acknowledgements of refused versions; those of swaps go with the first batch of the new version."""

    def __init__(
        self, registry: SchemaIds, clock: Clock, worker: str, metrics: Metrics, report: Callable[[OutRecords], None]
    ) -> None:
        self._clock, self._worker, self._metrics, self._report = clock, worker, metrics, report
        self._acks = RecordWriter(SWAP_ACKS, registry, worker)
        self._log = structlog.get_logger().bind(worker=worker)

    def ended(self, ended: Ended, held: Loaded | None) -> None:
        """A load ended. held: what the arm holds now."""
        if ended.refused is not None:
            self.refused(ended.announced, ended.refused)
        elif held is not None:
            self._metrics.add("swaps", 1, outcome="accepted")
            self._log.info("swapped", **_named(ended.announced), previous=held.previous, reason=ended.announced.reason)

    def refused(self, announced: AnnouncedVersion, cause: MillraceError) -> None:
        self._metrics.add("swaps", 1, outcome="refused")
        self._log.error("version refused; the old one goes on answering", **_named(announced), cause=str(cause))
        self._report(self._record(announced, accepted=False, reason=str(cause)[:500]))

    def first_batch(self, held: Loaded, offsets: Iterable[FirstOffset]) -> OutRecords:
        """For the transaction of the first batch that a version answers. offsets: its first of each partition."""
        return self._record(
            held.announced, accepted=True, previous=held.previous, loaded_ms=held.loaded_ms, first_offsets=tuple(offsets)
        )

    def _record(
        self,
        announced: AnnouncedVersion,
        *,
        accepted: bool,
        reason: str | None = None,
        previous: str | None = None,
        loaded_ms: float = 0.0,
        first_offsets: tuple[FirstOffset, ...] = (),
    ) -> OutRecords:
        ack = SwapAck(
            model=announced.model,
            version=announced.version,
            digest=announced.digest,
            previous=previous,
            worker=self._worker,
            accepted=accepted,
            reason=reason,
            loaded_ms=loaded_ms,
            first_offsets=first_offsets,
            arm=announced.arm,
        )
        return self._acks.of(ack, ack.model, uuid7(self._clock.now_ms()))


def _named(announced: AnnouncedVersion) -> dict[str, str]:
    return {"model": announced.model, "arm": announced.arm, "digest": announced.digest, "version": announced.version}
