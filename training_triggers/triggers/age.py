"""Age: a version that has answered for a set time is trained anew, whatever its figures are. Off unless a time is set."""

from __future__ import annotations

from dataclasses import dataclass

from training_triggers.triggers.trigger import Finding


@dataclass
class Age:
    """least_effect: seconds since its first answer; it is due again after each further period of that length. 0: never."""

    least_effect: float = 0.0
    name: str = "age"
    signal: str = "seconds"

    def due(self, entries: int, age_s: float) -> tuple[int, Finding] | None:
        """How often it has been due, and the finding; None if never."""
        times = int(age_s // self.least_effect) if self.least_effect else 0
        return (times, Finding(age_s, None, age_s)) if times else None
