"""Settings of the OpenAI-compatible door."""

from __future__ import annotations

from dataclasses import dataclass

from streams.process.settings import setting


@dataclass(frozen=True)
class DoorSettings:
    door_token: str = setting(
        "", "token that callers of the OpenAI-compatible door send; without one only this machine reaches it", secret=True
    )
    door_deadline_ms: int = setting(120_000, "how long the door waits for an answer, ms", 1, 86_400_000)
