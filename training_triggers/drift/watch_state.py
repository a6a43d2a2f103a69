"""Converts a watch to a record of `drift-state-v1`, and back under the current rules. Pure.

The record carries the rules that it was made under. Larger windows or a longer span would have to be filled with current traffic,
which may already have changed: so the baseline begins anew, and the watch's note says so. Smaller windows are cut from the stored
ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.generated import DriftState
from training_triggers.drift.version_watch import DUE, VersionWatch, WatchRules
from training_triggers.triggers.baseline_spread import Spread
from training_triggers.triggers.trigger import Trigger

RULES_VERSION = 1  # of the meaning of a state; a state with another version is not continued


def state_of(watch: VersionWatch, detector: str, model: str, version: str) -> DriftState:
    spread = watch.spread
    return DriftState(
        detector=detector,
        model=model,
        version=version,
        signals=watch.signals,
        baseline=watch.baseline.astype("<f4").tobytes(),
        window=watch.window.astype("<f4").tobytes(),
        windows=watch.windows,
        streaks=watch.streaks,
        from_ms=watch.from_ms,
        seen_ms=watch.seen_ms,
        first_ms=watch.first_ms,
        rules=RULES_VERSION,
        asked_n=watch.asked_n,
        window_n=watch.window_n,
        entries=watch.entries,
        began=watch.began,
        settled=watch.settled,
        since_ms=watch.since_ms,
        until_ms=watch.until_ms,
        spread_windows=spread.windows if spread else 0,
        spread=spread.packed() if spread else b"",
        ignored=tuple(sorted(watch.ignored)),
        note=watch.note,
    )


def watch_of(state: DriftState, triggers: Sequence[Trigger], rules: WatchRules) -> VersionWatch:
    """Never raises: an inconsistent state is replaced by a new watch."""
    if state.rules != RULES_VERSION:
        return _begun(state, triggers, rules).anew("its state was written under other rules, so its baseline began anew")
    try:
        watch = _as_written(state, triggers, rules)
    except ValueError:
        return _begun(state, triggers, rules).anew("its state did not hold together, so its baseline began anew")
    if rules.window_n > state.asked_n:
        return watch.anew(f"windows were raised from {state.asked_n} to {rules.window_n} entries, so its baseline began anew")
    if watch.settled and watch.span_ms < rules.baseline_ms:
        span_s, least_s = watch.span_ms / 1000, rules.baseline_ms / 1000
        return watch.anew(f"its baseline spanned {span_s:.0f} s and is to span {least_s:.0f} s, so it began anew")
    if rules.window_n < state.asked_n:
        watch.cut(f"windows were lowered from {state.asked_n} to {rules.window_n} entries, and its baseline was cut to them")
    return watch


def _begun(state: DriftState, triggers: Sequence[Trigger], rules: WatchRules) -> VersionWatch:
    """A new watch that keeps only the counters of a version, which contain nothing of its entries."""
    streaks = {key: n for key, n in state.streaks.items() if key.startswith(DUE)}
    streaks |= {f"{DUE}{key.split('/')[0]} ?": n for key, n in state.streaks.items() if key in ("volume/entries", "age/seconds")}
    return VersionWatch(
        state.signals,
        triggers,
        rules,
        windows=state.windows,
        entries=state.entries,
        streaks=streaks,
        seen_ms=state.seen_ms,
        first_ms=state.first_ms,
    )


def _as_written(state: DriftState, triggers: Sequence[Trigger], rules: WatchRules) -> VersionWatch:
    """The watch as the record describes it. Raises ValueError."""
    width, n = len(state.signals), state.window_n
    baseline, window = (np.frombuffer(raw, "<f4").reshape(-1, width) for raw in (state.baseline, state.window))
    spread = Spread.unpacked(state.spread, state.spread_windows, width) if state.spread_windows else None
    whole = (spread is None) == (not len(baseline)) and len(baseline) in (0, n) and len(window) < n and state.asked_n > 0
    if not whole:
        raise ValueError("baseline, window and spread are not of one size")
    return VersionWatch(
        state.signals,
        triggers,
        rules,
        baseline,
        window,
        n,
        state.asked_n,
        spread,
        state.settled,
        state.windows,
        state.began,
        state.entries,
        dict(state.streaks),
        state.from_ms,
        state.seen_ms,
        state.first_ms,
        state.since_ms,
        state.until_ms,
        frozenset(state.ignored),
        state.note,
    )
