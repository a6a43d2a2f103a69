"""A person's request for new baselines of a model, for use when the old baseline no longer shows the right state. The detectors
read it from `drift-events-v1`."""

from __future__ import annotations

from schemas.generated import DriftEvent
from schemas.topics import DRIFT_EVENTS
from streams.clock import SystemClock
from streams.kafka.config import KafkaAddress
from streams.kafka.write import write
from streams.record_writer import RecordWriter
from streams.schema_registry import Registry
from training_triggers.drift.detect import RENEW
from training_triggers.settings import TriggerSettings


def wish(model: str, at_ms: int) -> DriftEvent:
    return DriftEvent(
        event_id=f"{RENEW}/{model}/{at_ms}",
        model=model,
        version="",
        trigger=RENEW,
        signal="baseline",
        statistic=0.0,
        effect=0.0,
        least_effect=0.0,
        in_a_row=0,
        window=0,
        window_n=0,
        baseline_n=0,
        baseline_mean=0.0,
        window_mean=0.0,
        from_ms=at_ms,
        to_ms=at_ms,
    )


def renew(settings: TriggerSettings, model: str) -> DriftEvent:
    """Write the request; returns when the broker has it. Raises BrokerUnavailable."""
    event, ids = wish(model, SystemClock().now_ms()), Registry(settings.registry)
    write(
        KafkaAddress(bootstrap=settings.bootstrap),
        RecordWriter(DRIFT_EVENTS, ids, "drift command").of(event, model, event.event_id),
    )
    return event
