"""Volume: a version has given so many answers since it took over that there is new data to learn from. Off unless a number is
set."""

from __future__ import annotations

from dataclasses import dataclass

from training_triggers.triggers.trigger import Finding


@dataclass
class Volume:
    """least_effect: entries; it is due again after each further such number. 0: never."""

    least_effect: float = 0.0
    name: str = "volume"
    signal: str = "entries"

    def due(self, entries: int, age_s: float) -> tuple[int, Finding] | None:
        """How often it has been due, and the finding; None if never."""
        times = int(entries // self.least_effect) if self.least_effect else 0
        return (times, Finding(float(entries), None, float(entries))) if times else None
