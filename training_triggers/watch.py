"""Watching one model version: its first entries are the baseline, each further window is compared with it. Pure.

Windows are disjoint, so that what is compared is independent; a finding counts where the change is large enough, significant
after correction for the number of signals (where the trigger is a test), and there for `in_a_row` windows together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.signals import kind_of, together
from training_triggers.triggers.trigger import Due, Finding, Trigger, holm

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rules:
    """window_n: entries of the baseline and of each window. alpha: chance of a false finding a trigger and window, all signals
    together, before `least_effect` and `in_a_row`. due: what asks for training by count or time alone."""

    window_n: int = 1_000
    alpha: float = 0.05
    in_a_row: int = 2
    due: Sequence[Due] = ()


@dataclass(frozen=True, slots=True)
class Alarm:
    trigger: Trigger | Due
    signal: str
    finding: Finding
    p_value: float | None  # corrected
    in_a_row: int
    window: int
    window_n: int
    baseline_n: int
    baseline_mean: float
    window_mean: float
    from_ms: int
    to_ms: int


@dataclass
class Watch:
    """baseline, window: float32 (entries, signals); a baseline that is not full takes what comes. Not a number is -inf."""

    signals: tuple[str, ...]
    triggers: Sequence[Trigger]
    rules: Rules
    baseline: Matrix = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    window: Matrix = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    windows: int = 0
    streaks: dict[str, int] = field(default_factory=dict)
    from_ms: int = 0
    seen_ms: int = 0
    first_ms: int = 0

    def __post_init__(self) -> None:
        if not self.baseline.size:
            self.baseline = np.zeros((0, len(self.signals)), np.float32)
        if not self.window.size:
            self.window = np.zeros((0, len(self.signals)), np.float32)

    def add(self, entries: Matrix, at_ms: int) -> list[Alarm]:
        """Entries of one batch, shape (n, signals); the alarms of the windows that they fill."""
        entries = np.where(np.isnan(entries), np.float32("-inf"), entries).astype(np.float32)
        alarms: list[Alarm] = []
        while len(entries):
            self.seen_ms, self.first_ms = max(self.seen_ms, at_ms), self.first_ms or at_ms
            if len(self.baseline) < self.rules.window_n:
                missing = self.rules.window_n - len(self.baseline)
                self.baseline, entries = np.concatenate([self.baseline, entries[:missing]]), entries[missing:]
                continue
            if not len(self.window):
                self.from_ms = at_ms
            missing = self.rules.window_n - len(self.window)
            self.window, entries = np.concatenate([self.window, entries[:missing]]), entries[missing:]
            if len(self.window) == self.rules.window_n:
                self.windows += 1
                alarms += self._compare()
                self.window = self.window[:0]
        return alarms + self._due()

    def _due(self) -> list[Alarm]:
        """Each as often as it is due; `streaks` keeps how often it was told."""
        alarms: list[Alarm] = []
        entries = len(self.baseline) + self.windows * self.rules.window_n + len(self.window)
        for trigger in self.rules.due:
            found, key = trigger.due(entries, (self.seen_ms - self.first_ms) / 1000), f"{trigger.name}/{trigger.signal}"
            if found is not None and found[0] > self.streaks.get(key, 0):
                self.streaks[key] = found[0]
                alarms.append(Alarm(
                    trigger, trigger.signal, found[1], None, 1, found[0], entries, 0, 0.0, found[1].effect, self.first_ms, self.seen_ms
                ))  # fmt: skip
        return alarms

    def _compare(self) -> list[Alarm]:
        """The strongest first: it is the one that a request for training names."""
        alarms: list[Alarm] = []
        baseline, window = self.baseline.astype(np.float64), self.window.astype(np.float64)
        groups = together(self.signals)
        for trigger in self.triggers:
            group = groups.get(trigger.of)
            columns: list[Any] = (
                [np.array(group)] if group else [i for i, one in enumerate(self.signals) if kind_of(one) == trigger.of]
            )
            found = [trigger.compare(baseline[:, i], window[:, i]) for i in columns]
            tested = [one.p_value for one in found if one.p_value is not None]
            adjusted: Sequence[float | None] = holm(tested) if tested else [None] * len(found)
            for i, finding, p_value in zip(columns, found, adjusted, strict=True):
                signal = trigger.of if group else self.signals[i]
                key = f"{trigger.name}/{signal}"
                fires = finding.effect >= trigger.least_effect and (p_value is None or p_value < self.rules.alpha)
                self.streaks[key] = self.streaks.get(key, 0) + 1 if fires else 0
                if self.streaks[key] >= self.rules.in_a_row:
                    alarms.append(Alarm(
                        trigger, signal, finding, p_value, self.streaks[key], self.windows, len(window), len(baseline),
                        _mean(baseline[:, i]), _mean(window[:, i]), self.from_ms, self.seen_ms,
                    ))  # fmt: skip
        return sorted(alarms, key=lambda alarm: -alarm.finding.effect / alarm.trigger.least_effect)


def _mean(values: npt.NDArray[np.float64]) -> float:
    """Of what is a number; 0 where nothing is."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else 0.0


def columns_of(names: Sequence[str], known: Mapping[str, npt.NDArray[np.float32]], n: int) -> Matrix:
    """Named columns as one matrix (n, names); a column that is not there is not a number."""
    missing = np.full(n, np.nan, np.float32)
    return np.stack([known.get(name, missing) for name in names], axis=1) if names else np.zeros((n, 0), np.float32)
