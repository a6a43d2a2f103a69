"""Training runs from their cause to their end, according to the topics. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.monitor.plain import extended, shown
from infra.monitor.watching.story import Story
from schemas.generated import TrainingEvent, TrainingRequest
from schemas.topics import TRAINING_EVENTS, TRAINING_REQUESTS

MOST_RUNS = 100


@dataclass(frozen=True, kw_only=True)
class TrainingRun(TrainingRequest):
    """state: kind of its last event, `asked` before the first. passed_over: findings that asked for nothing new. events: oldest first,
    without those and without the gate's reports."""

    at_ms: int
    state: str
    passed_over: int
    events: list[TrainingEvent]


def runs(story: Story) -> list[TrainingRun]:
    """The newest first."""
    events: dict[str, list[dict[str, Any]]] = {}
    for event in story.of(TRAINING_EVENTS.name):
        events.setdefault(event["run_key"], []).append(event)
    newest = story.of(TRAINING_REQUESTS.name)[::-1][:MOST_RUNS]
    return [_run(request, events.get(request["run_key"], [])) for request in newest]


def _run(request: Mapping[str, Any], events: list[dict[str, Any]]) -> TrainingRun:
    own = [one for one in events if one["kind"] != "passed_over"]
    kinds = [one["kind"] for one in own if one["kind"] != "progress"]
    return extended(
        TrainingRun,
        TrainingRequest.from_dict(shown(request)),
        at_ms=request["at_ms"],
        state=kinds[-1] if kinds else "asked",
        passed_over=len(events) - len(own),
        events=[_event(one) for one in own],
    )


def _event(event: Mapping[str, Any]) -> TrainingEvent:
    facts = {name: value for name, value in event["facts"].items() if name != "report"}
    return TrainingEvent.from_dict(shown({**event, "facts": facts}))
