"""The watches of the detectors, as histograms of baseline and window with the same edges, and their findings. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.monitor.plain import picked, shown
from infra.monitor.watching.story import Story
from schemas.signals import EMBEDDING, kind_of, together
from schemas.topics import DRIFT_EVENTS

Floats = npt.NDArray[Any]
BINS = 24
FAR = "spreads from the baseline's middle"
MOST_FINDINGS = 20  # per signal


@dataclass(frozen=True)
class Finding:
    """A drift event; null is a number that the detector could not tell. at_ms: when the broker took it."""

    event_id: str
    model: str
    version: str
    trigger: str
    signal: str
    statistic: float | None
    p_value: float | None
    effect: float | None
    least_effect: float | None
    in_a_row: int
    window: int
    window_n: int
    baseline_n: int
    baseline_mean: float | None
    window_mean: float | None
    from_ms: int
    to_ms: int
    baseline_ms: int
    baseline_missing: float | None
    window_missing: float | None
    at_ms: int


@dataclass(frozen=True)
class Signal:
    """Shares of the entries in equal bins between the edges, one more than there are bins; all empty where nothing was measured. unit:
    empty, or what the edges are measured in where that is not the signal itself. findings: oldest first."""

    name: str
    unit: str
    edges: list[float]
    baseline: list[float]
    window: list[float]
    findings: list[Finding]


@dataclass(frozen=True)
class Watched:
    """One version of a model under one detector. windows: complete ones so far. streaks: by trigger/signal, windows in a row that
    fired. note: why its baseline began anew or was cut."""

    detector: str
    model: str
    version: str
    windows: int
    streaks: dict[str, int]
    seen_ms: int
    baseline_n: int
    window_n: int
    note: str
    signals: list[Signal]


def findings(story: Story) -> list[Finding]:
    """Oldest first."""
    return [picked(Finding, shown(record)) for record in story.of(DRIFT_EVENTS.name)]


def watched(story: Story, all_findings: Sequence[Finding]) -> list[Watched]:
    """Each watch; for columns that are tested together, the distance of an entry from the baseline's middle, in the baseline's
    spreads. all_findings: of `findings`."""
    found = []
    for state in story.drift_states():
        try:
            found.append(_watch(state, all_findings))
        except (ValueError, IndexError, ZeroDivisionError):
            continue  # its tables do not match its signals: this is not the state of one of our detectors
    return found


def _watch(state: Mapping[str, Any], all_findings: Sequence[Finding]) -> Watched:
    signals, model, version = tuple(state["signals"]), state["model"], state["version"]
    baseline, window = (_table(state[name], len(signals)) for name in ("baseline", "window"))
    joint = together(signals)
    mine = [one for one in all_findings if (one.model, one.version) == (model, version)]
    said = shown({name: state[name] for name in ("detector", "model", "version", "streaks", "note")})
    return Watched(
        **said,
        windows=state["windows"],
        seen_ms=state["seen_ms"],
        baseline_n=len(baseline),
        window_n=len(window),
        signals=[
            Signal(
                name,
                FAR if name in joint else "",
                *_shape(*columns),
                [one for one in mine if one.signal == name][-MOST_FINDINGS:],
            )
            for name, columns in _columns(signals, baseline, window).items()
        ],
    )


def _columns(signals: Sequence[str], baseline: Floats, window: Floats) -> dict[str, tuple[Floats, Floats]]:
    """Baseline and window of each column that findings name, each of shape (entries,)."""
    apart = {name: (baseline[:, i], window[:, i]) for i, name in enumerate(signals) if kind_of(name) != EMBEDDING}
    joint = {name: _distances(baseline[:, columns], window[:, columns]) for name, columns in together(signals).items()}
    return joint | apart


def _distances(baseline: Floats, window: Floats) -> tuple[Floats, Floats]:
    """Root mean square over the columns that are known and vary."""
    known = np.ma.masked_invalid(baseline.astype(np.float64))
    middle, spread = known.mean(axis=0), np.ma.masked_equal(known.std(axis=0), 0.0)
    first, second = (
        np.ma.filled(np.ma.sqrt((((np.ma.masked_invalid(one) - middle) / spread) ** 2).mean(axis=1)), np.nan)
        for one in (baseline, window)
    )
    return first, second


def _table(raw: bytes, signals: int) -> Floats:
    values = np.frombuffer(raw, "<f4")
    return values[: len(values) - len(values) % max(1, signals)].reshape(-1, max(1, signals))


def _shape(baseline: Floats, window: Floats) -> tuple[list[float], list[float], list[float]]:
    """Edges, and the shares of both samples in BINS equal bins over their common range."""
    both = np.concatenate([baseline, window])
    both = both[np.isfinite(both)]
    if not len(both):
        return [], [], []
    low, high = float(both.min()), float(both.max())
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)

    def shares(values: Floats) -> list[float]:
        counts, _ = np.histogram(values[np.isfinite(values)], edges)
        return [round(float(one), 4) for one in counts / max(1, counts.sum())]

    return [float(one) for one in edges], shares(baseline), shares(window)
