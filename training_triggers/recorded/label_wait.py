"""Waits until enough requests since a time are labelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from schemas.codec import SchemaIds
from schemas.topics import LABELS, PREDICTION_LOG
from streams.clock import Clock
from streams.ids import time_ms_of
from streams.kafka.admin import KafkaAdmin
from streams.kafka.broadcast import KafkaBroadcast
from streams.kafka.config import KafkaAddress
from streams.readable import Followed, Readable
from training_triggers.recorded.training_window import WindowRefused

LOOK_EVERY_S = 1.0


class LabelledRequests:
    """Counts the labelled requests of a task since a time: by the time in their ids or, for ids without a time, by the prediction
    log since then."""

    def __init__(self, task: str, since_ms: int) -> None:
        self._task, self._since_ms = task, since_ms
        self._recent, self._timeless, self._logged = set[str](), set[str](), set[str]()

    @property
    def needs_log(self) -> bool:
        """Whether a labelled request has an id without a time."""
        return bool(self._timeless)

    def __len__(self) -> int:
        return len(self._recent) + len(self._timeless & self._logged)

    def label(self, label: Mapping[str, Any]) -> None:
        """Take one record of the labels."""
        if label["task"] != self._task or not (label["truth"] or label.get("parts")):
            return
        at_ms = time_ms_of(label["request_id"])
        if at_ms is None:
            self._timeless.add(label["request_id"])
        elif at_ms >= self._since_ms:
            self._recent.add(label["request_id"])

    def answers(self, record: Mapping[str, Any]) -> None:
        """Take one record of the prediction log since then."""
        if record["task"] == self._task:
            self._logged.update(request_id for request_id in record["request_ids"] if time_ms_of(request_id) is None)


def wait_for_labels(
    address: KafkaAddress,
    ids: SchemaIds,
    task: str,
    since_ms: int,
    wanted: int,
    limit_s: float,
    clock: Clock,
    say: Callable[[str], None],
) -> None:
    """Wait until `wanted` requests since `since_ms` are labelled. Raises WindowRefused after limit_s."""
    reader, log = KafkaBroadcast(address, LABELS.name, clock), None
    labels = Followed(reader, Readable(LABELS, ids, dict))
    labelled = LabelledRequests(task, since_ms)
    answers: Followed[dict[str, Any]] | None = None
    begun_s, reported = clock.monotonic_s(), -1
    try:
        while True:
            for label in labels.take(reader.wait(LOOK_EVERY_S)):
                labelled.label(label)
            if labelled.needs_log:
                log = log or _log_since(address, since_ms, clock)
                answers = answers or Followed(log, Readable(PREDICTION_LOG, ids, dict))
                for record in answers.poll():
                    labelled.answers(record)
            is_late = clock.monotonic_s() - begun_s > limit_s
            if not is_late and not (reader.at_end() and (log is None or log.at_end())):
                continue
            if len(labelled) >= wanted:
                return
            if is_late:
                raise WindowRefused(
                    f"only {len(labelled)} of the {wanted} labelled requests that are needed since the drift arrived within {limit_s:.0f} s"
                )
            if len(labelled) != reported:
                reported = len(labelled)
                say(f"{reported} of {wanted} labelled requests arrived")
    finally:
        reader.close()
        if log is not None:
            log.close()


def _log_since(address: KafkaAddress, from_ms: int, clock: Clock) -> KafkaBroadcast:
    places = [(PREDICTION_LOG.name, number) for number in range(PREDICTION_LOG.partitions)]
    return KafkaBroadcast(address, PREDICTION_LOG.name, clock, KafkaAdmin(address).offsets_at(places, from_ms))
