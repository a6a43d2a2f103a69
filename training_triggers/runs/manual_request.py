"""`./millrace training request`: a person requests a run. The record is the same as the one that `decide` writes."""

from __future__ import annotations

import getpass
from collections.abc import Mapping

from schemas.generated import TrainingRequest
from schemas.topics import TRAINING_REQUESTS
from streams.clock import SystemClock
from streams.ids import uuid7
from streams.kafka.config import KafkaAddress
from streams.kafka.write import write
from streams.record_writer import RecordWriter
from streams.schema_registry import Registry
from training_triggers.settings import TriggerSettings
from training_triggers.trainers.retrain import trainer_of
from training_triggers.versions.promotion import live


def ask(
    settings: TriggerSettings, model: str, reason: str, options: Mapping[str, str], actor: str | None = None
) -> TrainingRequest:
    """Write the request; returns when the broker has it. actor: the account if none is named. Raises BadSettings if no trainer
    exists for the model."""
    trainer_of(model)
    address, ids, now_ms = KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry), SystemClock().now_ms()
    request_id = uuid7(now_ms)
    request = TrainingRequest(
        run_key=f"{model}-{request_id[-8:]}",
        model=model,
        version=live(model, address, ids).folder.version,
        reason=reason,
        actor=actor or getpass.getuser(),
        options=dict(options),
        decided_ms=now_ms,
    )
    write(address, RecordWriter(TRAINING_REQUESTS, ids, "training command").of(request, model, request_id))
    return request
