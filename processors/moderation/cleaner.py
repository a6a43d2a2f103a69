"""Removes expired media from the claim-check store, after retention has deleted every record that may refer to them."""

from __future__ import annotations

import json
from threading import Thread

import structlog

from schemas import avro
from schemas.catalogue import catalogue
from schemas.durations import DAY_MS
from schemas.errors import MillraceError
from streams.claim_checks import ClaimChecks
from streams.clock import Clock

EVERY_S = 3600.0
MARGIN_MS = DAY_MS  # the broker deletes a record only together with its segment


def lifetime_s() -> float:
    """The longest retention of a topic whose records refer to media, plus a day. Dead letters are kept longer: a dead letter that
    is redriven later is answered that its media are gone."""
    retentions_ms = [
        topic.retention_ms for topic in catalogue().topics if topic.record is not None and _refers(topic.record_name)
    ]
    return (max(retentions_ms) + MARGIN_MS) / 1000


def _refers(record: str) -> bool:
    return '"sha256"' in json.dumps(avro.schema(record))


class Cleaner:
    """Implements `streams.loop.processor.Periodic`: makes one pass over the first root per hour, on its own thread."""

    def __init__(self, claim_checks: ClaimChecks, clock: Clock) -> None:
        self._claim_checks, self._clock = claim_checks, clock
        self._begun_s = float("-inf")
        self._thread: Thread | None = None

    def tick(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._begun_s < EVERY_S or (self._thread is not None and self._thread.is_alive()):
            return
        self._begun_s = now_s
        self._thread = Thread(target=self._clean, name="cleaner", daemon=True)
        self._thread.start()

    def _clean(self) -> None:
        log = structlog.get_logger()
        try:
            gone = self._claim_checks.clean(lifetime_s(), self._clock.now_ms() / 1000)
        except (MillraceError, OSError) as error:
            log.warning("claim checks could not be cleaned", cause=str(error))
            return
        log.info("claim checks cleaned", removed=gone, older_than_s=lifetime_s())
