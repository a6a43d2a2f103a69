"""Settings of training and promotion, read once."""

from __future__ import annotations

from dataclasses import dataclass

from streams.settings import setting


@dataclass(frozen=True)
class TriggerSettings:
    bootstrap: str = setting("127.0.0.1:9092", "address of the Kafka broker")
    registry: str = setting("http://127.0.0.1:8081", "address of the schema registry (Confluent API)")
    mlflow: str = setting("", "address of the MLflow server")
    log_json: bool = setting(True, "logs as JSON lines; false for columns")
