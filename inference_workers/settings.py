"""Settings of a worker process, read once. `./millrace config show` prints them with their origin."""

from __future__ import annotations

from dataclasses import dataclass

from streams.loop import Delivery
from streams.settings import setting


@dataclass(frozen=True)
class WorkerSettings:
    bootstrap: str = setting("127.0.0.1:9092", "address of the Kafka broker")
    registry: str = setting("http://127.0.0.1:8081", "address of the schema registry (Confluent API)")
    delivery: Delivery = setting(Delivery.EXACTLY_ONCE, "exactly-once or at-least-once")
    group_protocol: str = setting("classic", "classic, or consumer for KIP-848")
    max_batch: int = setting(64, "most requests in one micro-batch")
    max_batch_kib: int = setting(8_192, "most KiB of requests in one micro-batch")
    max_wait_ms: float = setting(0.0, "how long a batch may wait for company")
    commit_interval_ms: float = setting(100.0, "longest time between two commits under load")
    look_ahead: int = setting(4_000, "most records polled and not yet committed")
    session_timeout_ms: int = setting(10_000, "after this long without a heartbeat the group goes on without the worker")
    transaction_timeout_ms: int = setting(15_000, "after this long the broker aborts an open transaction")
    max_failures_in_a_row: int = setting(100, "so many failed records in a row stop the worker")
    model_uri: str | None = setting(None, "model folder to start with, instead of the task's own")
    log_json: bool = setting(True, "logs as JSON lines; false for columns")
