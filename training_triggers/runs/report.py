"""Shows drift and training to people: the state of each watch, the last findings, and each run from its cause to its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from schemas.errors import BadSettings
from schemas.generated import DriftEvent, DriftState, TrainingEvent, TrainingRequest
from schemas.signals import together
from schemas.topics import ACCURACY, DRIFT_EVENTS, DRIFT_STATE, TRAINING_EVENTS, TRAINING_REQUESTS
from schemas.vocabulary import RunEvent
from streams.kafka.config import KafkaAddress
from streams.kafka.readback import records
from streams.schema_registry import Registry
from streams.terminal_text import moment
from training_triggers.drift.decide import words_of
from training_triggers.settings import TriggerSettings


class TrainingRecords:
    """All records of the retraining loop."""

    def __init__(self, settings: TriggerSettings) -> None:
        self.address, self.ids = KafkaAddress(bootstrap=settings.bootstrap), Registry(settings.registry)

    def states(self) -> list[DriftState]:
        last = {}
        for state in records(self.address, DRIFT_STATE, self.ids, DriftState.from_dict):
            last[state.detector, state.model, state.version] = state
        return list(last.values())

    def findings(self) -> list[DriftEvent]:
        return records(self.address, DRIFT_EVENTS, self.ids, DriftEvent.from_dict)

    def requests(self) -> list[TrainingRequest]:
        return records(self.address, TRAINING_REQUESTS, self.ids, TrainingRequest.from_dict)

    def events(self) -> list[TrainingEvent]:
        return records(self.address, TRAINING_EVENTS, self.ids, TrainingEvent.from_dict)


def drift(settings: TriggerSettings, as_json: bool) -> None:
    """Print each watch, what it compares and what it cannot see, and the newest finding of each signal."""
    topics = TrainingRecords(settings)
    found, states = topics.findings(), topics.states()
    rows = [row_of(state, found, settings) for state in states] + [dark(state) for state in unlabelled(states)]
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    if not rows:
        print("nothing was watched yet: `./millrace up --with training` starts the detectors, and the prediction log feeds them")
    for row in rows:
        print(f"{row['model']} {row['version']}, {row['detector']}: {row['state']}")
        for words in row["blind"]:
            print(f"  blind: {words}")
        for finding in row["findings"]:
            print(f"  {finding['event_id']}: {finding['words']}")


def row_of(state: DriftState, found: Sequence[DriftEvent], settings: TriggerSettings) -> dict[str, Any]:
    """One row of the report. blind: changes that the watch does not see, or for which no run is requested; the absence of
    findings is good news only about the rest."""
    width = 4 * max(1, len(state.signals))
    baseline, window = len(state.baseline) // width, len(state.window) // width
    last: dict[tuple[str, str], DriftEvent] = {}
    watched = {*state.signals, *together(state.signals)}
    for event in found:
        if (event.model, event.version) == (state.model, state.version) and event.signal in watched:
            last[event.trigger, event.signal] = event
    words = f"baseline of {baseline} entries; window {state.windows + 1} has {window} of {state.window_n}; the last entry came {moment(state.seen_ms)}"
    return {
        "model": state.model,
        "version": state.version,
        "detector": state.detector,
        "signals": list(state.signals),
        "state": words,
        "blind": _blind(state, baseline, window, settings),
        "windows": state.windows,
        "note": state.note,
        "seen_ms": state.seen_ms,
        "findings": [asdict(event) | {"words": words_of(event)} for event in last.values()],
    }


def _blind(state: DriftState, baseline: int, window: int, settings: TriggerSettings) -> list[str]:
    words = []
    spans_s = (state.until_ms - state.since_ms) / 1000
    if not baseline:
        words.append(f"there is no baseline yet, so nothing is found: {window} of its first {state.window_n} entries came")
    elif not state.settled:
        words.append(
            f"the baseline spans {spans_s:.0f} s; a finding asks for training from {settings.drift_baseline_s:.0f} s on (MILLRACE_DRIFT_BASELINE_S)"
        )
    if state.ignored:
        words.append(f"not watched, as not all batches had them or the baseline began without them: {', '.join(state.ignored)}")
    if state.window_n < state.asked_n:
        words.append(
            f"windows have {state.window_n} entries, not {state.asked_n}: of {len(state.signals)} signals more would not fit a record"
        )
    return words + ([state.note] if state.note else [])


def unlabelled(states: Sequence[DriftState]) -> list[DriftState]:
    """Of each model that answers and of which no answer has a label, the newest state."""
    judged = {state.model for state in states if state.detector == ACCURACY.group}
    newest = {state.model: state for state in sorted(states, key=lambda state: state.seen_ms) if state.detector != ACCURACY.group}
    return [state for model, state in newest.items() if model not in judged]


def dark(state: DriftState) -> dict[str, Any]:
    return {
        "model": state.model,
        "version": state.version,
        "detector": ACCURACY.group,
        "signals": [],
        "state": "not watched",
        "blind": ["no answer met a label, so nothing is known of how often it is right"],
        "windows": 0,
        "note": "",
        "seen_ms": 0,
        "findings": [],
    }


def runs(settings: TriggerSettings, as_json: bool, only: str = "") -> None:
    """Print every requested run and its result. only: runs of one model, or one run with all its events."""
    topics = TrainingRecords(settings)
    events: dict[str, list[TrainingEvent]] = {}
    for event in topics.events():
        events.setdefault(event.run_key, []).append(event)
    chosen = [one for one in topics.requests() if only in ("", one.model, one.run_key)]
    if only and not chosen:
        raise BadSettings(f"no run and no model {only} was asked for; `./millrace training list` shows what was")
    for request in chosen:
        mine = events.get(request.run_key, [])
        if as_json:
            print(json.dumps(asdict(request) | {"events": [asdict(event) for event in mine]}))
            continue
        own = [event for event in mine if event.kind not in (RunEvent.PASSED_OVER, RunEvent.PROGRESS)]
        print(f"{request.run_key}  {own[-1].kind if own else 'asked'}, by {request.actor}: {request.reason}")
        if only != request.run_key:
            if own and own[-1].kind != RunEvent.ASKED:
                print(f"  {own[-1].words}")
            continue
        for event in mine:
            if event.kind != RunEvent.PASSED_OVER:
                print(f"  {moment(event.at_ms)}  {event.kind:<12} {event.words}")
        passed_over = [event for event in mine if event.kind == RunEvent.PASSED_OVER]
        if passed_over:
            print(
                f"  {len(passed_over)} further findings asked for nothing new; the last: {passed_over[-1].cause}: {passed_over[-1].words}"
            )
        folder = next((event.facts["folder"] for event in reversed(mine) if "folder" in event.facts), "")
        if folder:
            print(f"  what it made lies in {folder}")
