"""Watches one model version: its first entries are the baseline, and each further window is compared with it. Pure.

The first window begins the baseline. Until the baseline spans `baseline_ms`, it also learns from each compared window, and holds
an equal share of each. A finding counts if the change is large enough, significant, and present in `in_a_row` windows in a row.

The windows of one baseline share it, and entries are not independent. Significance takes both into account:
- Each sample counts as the number of independent entries that the baseline's own windows indicate (`baseline_spread.py`).
- Window k since the baseline spends alpha / (k (k + 1)) of alpha, which adds up to at most alpha over any number of windows. Once
  that falls below LEAST_ALPHA, each window spends LEAST_ALPHA, so that an old version is still watched. A finding needs m
  significant windows in a row. The chance that all m windows, which share a baseline at least as large as each, have a p-value
  under q is about q^(2m / (m + 1)) (the exponent for normals with a correlation of 1/2). So each window is tested at its share of
  alpha to the power of (m + 1) / 2m.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.signals import kind_of, together
from training_triggers.triggers.baseline_spread import Floats, Spread
from training_triggers.triggers.trigger import Due, Finding, Trigger, holm

Matrix = npt.NDArray[np.float32]
LEAST_ALPHA = 1e-6
LEAST_WINDOW_N = 20
STATE_BYTES = 900_000  # of baseline and window together: with the rest they fit a record of `drift-state-v1`
SEED = 20_240_501
DUE = "due "  # prefix of a key of `streaks` for a trigger by count or time, followed by its name and size


@dataclass(frozen=True)
class WatchRules:
    """window_n: entries of the baseline and of each window. alpha: chance of a false finding per trigger and version, over all
    signals and windows, before `least_effect` and `in_a_row`. baseline_ms: time that a baseline spans. due: triggers that request
    training by count or time alone."""

    window_n: int = 1_000
    alpha: float = 0.05
    in_a_row: int = 2
    baseline_ms: int = 0
    due: Sequence[Due] = ()

    def alpha_of(self, window: int) -> float:
        """The level at which a window is tested. window: its number since the baseline, from 1."""
        spent = max(self.alpha / (window * (window + 1)), LEAST_ALPHA)
        return float(spent ** ((self.in_a_row + 1) / (2 * self.in_a_row)))

    def fitting(self, signals: int) -> int:
        """Entries per window for this number of signals: fewer than `window_n` if baseline and window would not fit a record."""
        return max(LEAST_WINDOW_N, min(self.window_n, STATE_BYTES // (8 * max(1, signals))))


@dataclass(frozen=True, slots=True)
class Sample:
    """Summary of a finding's baseline or window. mean: of its finite entries, 0 if there are none; missing: the share of the
    others."""

    n: int
    mean: float = 0.0
    missing: float = 0.0

    @classmethod
    def of(cls, values: Floats) -> Sample:
        """values: float64 (entries,) or (entries, signals)."""
        finite = values[np.isfinite(values)]
        return cls(len(values), float(finite.mean()) if finite.size else 0.0, 1 - finite.size / max(1, values.size))


@dataclass(frozen=True, slots=True)
class Alarm:
    trigger: Trigger | Due
    signal: str
    finding: Finding
    p_value: float | None  # corrected
    in_a_row: int
    window: int
    before: Sample
    after: Sample
    from_ms: int
    to_ms: int
    baseline_ms: int = 0


@dataclass
class VersionWatch:
    """baseline, window: float32 (entries, signals), with -inf for NaN. window_n: entries of each, fixed when the baseline began.
    asked_n: the setting that window_n came from. windows: number compared so far, including those of earlier baselines; began:
    how many of them came before alpha was spent anew. entries: number seen so far. A baseline that is not settled learns from the
    windows it is compared with, and reports a change once."""

    signals: tuple[str, ...]
    triggers: Sequence[Trigger]
    rules: WatchRules
    baseline: Matrix = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    window: Matrix = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    window_n: int = 0
    asked_n: int = 0
    spread: Spread | None = None
    settled: bool = False
    windows: int = 0
    began: int = 0
    entries: int = 0
    streaks: dict[str, int] = field(default_factory=dict)
    from_ms: int = 0
    seen_ms: int = 0
    first_ms: int = 0
    since_ms: int = 0
    until_ms: int = 0
    ignored: frozenset[str] = frozenset()
    note: str = ""

    def __post_init__(self) -> None:
        self.window_n = self.window_n or self.rules.fitting(len(self.signals))
        self.asked_n = self.asked_n or self.rules.window_n
        if not self.baseline.size:
            self.baseline = np.zeros((0, len(self.signals)), np.float32)
        if not self.window.size:
            self.window = np.zeros((0, len(self.signals)), np.float32)

    @property
    def span_ms(self) -> int:
        """Time from the first to the last entry that the baseline learnt from."""
        return max(0, self.until_ms - self.since_ms)

    def add(self, entries: Matrix, at_ms: int) -> list[Alarm]:
        """Add the entries of one batch, float32 (n, signals). Returns the alarms of the windows that they complete."""
        entries = np.where(np.isnan(entries), np.float32("-inf"), entries).astype(np.float32)
        alarms: list[Alarm] = []
        self.entries += len(entries)
        while len(entries):
            self.seen_ms, self.first_ms = max(self.seen_ms, at_ms), self.first_ms or at_ms
            self.since_ms = self.since_ms or at_ms
            if not len(self.window):
                self.from_ms = at_ms
            room = max(1, self.window_n - len(self.window))
            self.window, entries = np.concatenate([self.window, entries[:room]]), entries[room:]
            if len(self.window) >= self.window_n:
                alarms += self._complete()
        return alarms + self._due()

    def _complete(self) -> list[Alarm]:
        alarms: list[Alarm] = []
        window, self.window = self.window, self.window[:0]
        if self.spread is not None:
            self.windows += 1
            alarms = self._compare(window.astype(np.float64), self.spread)
        if not self.settled:
            self._learn(window)
        return alarms

    def _learn(self, window: Matrix) -> None:
        """Mix a window into the baseline, float32 (entries, signals): each window of the span gets the same share of the
        baseline's entries. The draw is the same after a restart."""
        if self.spread is None:
            self.spread = Spread.of(window.astype(np.float64))
        self.spread.add(window.astype(np.float64))
        drawn = np.random.default_rng([SEED, self.spread.windows]).random(len(window)) < 1 / self.spread.windows
        self.baseline = np.where(drawn[:, None], window, self.baseline) if len(self.baseline) else window
        self.until_ms = max(self.until_ms, self.seen_ms)
        if self.span_ms >= self.rules.baseline_ms:
            self.settled, self.began = True, self.windows

    def anew(self, note: str, signals: tuple[str, ...] | None = None, since_ms: int = 0) -> VersionWatch:
        """The same version with a baseline that begins now. The window count continues, so that no two findings have the same
        id."""
        return VersionWatch(
            signals or self.signals,
            self.triggers,
            self.rules,
            windows=self.windows,
            began=self.windows,
            entries=self.entries,
            streaks=self._dues(),
            seen_ms=self.seen_ms,
            first_ms=self.first_ms,
            since_ms=since_ms,
            ignored=self.ignored,
            note=note,
        )

    def cut(self, note: str) -> None:
        """Reduce to smaller windows: the baseline is sampled evenly, and the window being filled is emptied. The spread between
        windows was measured on larger windows, whose design effect is the larger one."""
        self.window_n, self.asked_n = min(self.window_n, self.rules.fitting(len(self.signals))), self.rules.window_n
        if len(self.baseline) > self.window_n:
            self.baseline = self.baseline[np.linspace(0, len(self.baseline) - 1, self.window_n).astype(int)]
        self.window, self.note, self.streaks = self.window[:0], note, self._dues()

    def _dues(self) -> dict[str, int]:
        return {key: n for key, n in self.streaks.items() if key.startswith(DUE)}

    def narrow(self, names: Sequence[str]) -> None:
        """Keep only the columns that these batches also have; the others are dropped and listed in `ignored`."""
        kept = [i for i, signal in enumerate(self.signals) if signal in names]
        self.ignored |= set(self.signals) - set(names)
        self.signals = tuple(self.signals[i] for i in kept)
        self.baseline, self.window = self.baseline[:, kept], self.window[:, kept]
        self.spread = None if self.spread is None else self.spread.only(kept)

    def _due(self) -> list[Alarm]:
        """An alarm for each trigger that is due; `streaks` stores how often each was reported. If a trigger's size was changed,
        whatever is due by now counts as reported."""
        alarms: list[Alarm] = []
        for trigger in self.rules.due:
            found, of = trigger.due(self.entries, (self.seen_ms - self.first_ms) / 1000), f"{DUE}{trigger.name} "
            key = f"{of}{trigger.least_effect:g}"
            others = [other for other in self.streaks if other.startswith(of) and other != key]
            for other in others:
                del self.streaks[other]
            if found is not None and found[0] > self.streaks.get(key, 0):
                self.streaks[key] = found[0]
                if not others:
                    alarms.append(
                        Alarm(
                            trigger,
                            trigger.signal,
                            found[1],
                            None,
                            1,
                            found[0],
                            Sample(0),
                            Sample(self.entries, found[1].effect),
                            self.first_ms,
                            self.seen_ms,
                        )
                    )
        return alarms

    def _compare(self, window: Floats, spread: Spread) -> list[Alarm]:
        """Compare a window, float64 (entries, signals), with the baseline; alarms, the strongest first, since a request for
        training names that one."""
        alarms: list[Alarm] = []
        baseline, alpha = self.baseline.astype(np.float64), self.rules.alpha_of(self.windows - self.began)
        effects, groups = spread.design_effects(window), together(self.signals)
        for trigger in self.triggers:
            group = groups.get(trigger.of)
            columns: list[Any] = (
                [np.array(group)] if group else [i for i, one in enumerate(self.signals) if kind_of(one) == trigger.of]
            )
            found = [
                trigger.compare(baseline[:, i], window[:, i], spread.sizes(np.atleast_1d(effects[i]), len(window)))
                for i in columns
            ]
            tested = [one.p_value for one in found if one.p_value is not None]
            adjusted: Sequence[float | None] = holm(tested) if tested else [None] * len(found)
            for i, finding, p_value in zip(columns, found, adjusted, strict=True):
                signal = trigger.of if group else self.signals[i]
                key = f"{trigger.name}/{signal}"
                fires = finding.effect >= trigger.least_effect and (p_value is None or p_value < alpha)
                self.streaks[key] = self.streaks.get(key, 0) + 1 if fires else 0
                if self.streaks[key] == self.rules.in_a_row or (self.settled and self.streaks[key] > self.rules.in_a_row):
                    alarms.append(
                        Alarm(
                            trigger,
                            signal,
                            finding,
                            p_value,
                            self.streaks[key],
                            self.windows,
                            Sample.of(baseline[:, i]),
                            Sample.of(window[:, i]),
                            self.from_ms,
                            self.seen_ms,
                            self.span_ms,
                        )
                    )
        return sorted(alarms, key=lambda alarm: -alarm.finding.effect / alarm.trigger.least_effect)


def columns_of(names: Sequence[str], known: Mapping[str, npt.NDArray[np.float32]], n: int) -> Matrix:
    """Named columns as one matrix, float32 (n, names); a missing column is NaN."""
    missing = np.full(n, np.nan, np.float32)
    return np.stack([known.get(name, missing) for name in names], axis=1) if names else np.zeros((n, 0), np.float32)
