"""Volume: so much was answered since a version took over that there is something new to learn. Off unless a number is set."""

from __future__ import annotations

from dataclasses import dataclass

from training_triggers.triggers.trigger import Finding


@dataclass
class Volume:
    """least_effect: entries; each further so many it is due again. 0: never."""

    least_effect: float = 0.0
    name: str = "volume"
    signal: str = "entries"

    def due(self, entries: int, age_s: float) -> tuple[int, Finding] | None:
        """How often it has been due, and the finding."""
        times = int(entries // self.least_effect) if self.least_effect else 0
        return (times, Finding(float(entries), None, float(entries))) if times else None
