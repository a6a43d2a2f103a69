"""Models over time: which version was live when, why, and beside which others, according to the topics. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from infra.monitor.plain import extended, plain, shown
from infra.monitor.watching.story import Story
from infra.settings import ROOT
from schemas.generated import Challenger, ModelUpdate, SwapAck
from schemas.topics import MODEL_UPDATES, SWAP_ACKS, TRAINING_EVENTS
from schemas.vocabulary import Arm

SHIPPED = ROOT / "inference_workers" / "shipped"
MOST_ACKS = 200


@dataclass(frozen=True)
class ShippedModel:
    name: str
    version: str


@dataclass(frozen=True)
class Span:
    """A version in one arm. from_ms: 0 for the shipped version. to_ms: null while it lasts. share: of the keys, 0 to 1."""

    arm: Arm
    version: str
    from_ms: int
    to_ms: int | None
    words: str
    actor: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Announcement(ModelUpdate):
    """at_ms: when the broker took it."""

    at_ms: int


@dataclass(frozen=True, kw_only=True)
class Swap(SwapAck):
    """What a worker said of an announcement. at_ms: when the broker took it."""

    at_ms: int


@dataclass(frozen=True)
class GateReport:
    """report: as the gate wrote it; empty where it cannot be read."""

    run_key: str
    at_ms: int
    kind: str
    words: str
    report: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """answering: versions that workers say they answer with. spans: oldest first, the last one of an arm open. updates, acks, reports:
    newest first."""

    name: str
    live: str
    challengers: list[Challenger]
    answering: list[str]
    spans: list[Span]
    updates: list[Announcement]
    acks: list[Swap]
    reports: list[GateReport]


def known() -> list[ShippedModel]:
    """Shipped models, with the version of each."""
    found = []
    for config in sorted(SHIPPED.glob("*/config.json")):
        about = json.loads(config.read_text())
        found.append(ShippedModel(config.parent.name, str(about.get("version", "1"))))
    return found


def stories(story: Story) -> list[Model]:
    """Every model that is shipped, was announced, or answers; by name. A declared model starts with the version of its declaration."""
    updates, acks = _by_model(story.of(MODEL_UPDATES.name)), _by_model(story.of(SWAP_ACKS.name))
    reports = _by_model([event for event in story.of(TRAINING_EVENTS.name) if "report" in event["facts"]])
    answering = _answering(story)
    shipped = {one.name: one.version for one in known()}
    found = []
    for name in sorted({*shipped, *updates, *answering}):
        first = shipped.get(name) or first_version(acks.get(name, ()), answering.get(name, ()))
        mine = [extended(Announcement, ModelUpdate.from_dict(shown(r)), at_ms=r["at_ms"]) for r in updates.get(name, ())]
        found.append(
            Model(
                name=name,
                live=mine[-1].version if mine else first,
                challengers=list(mine[-1].challengers) if mine else [],
                answering=sorted(answering.get(name, ())),
                spans=_spans(mine, first or "?"),
                updates=mine[::-1],
                acks=[
                    extended(Swap, SwapAck.from_dict(shown(record)), at_ms=record["at_ms"])
                    for record in acks.get(name, [])[::-1][:MOST_ACKS]
                ],
                reports=[_report(event) for event in reports.get(name, [])[::-1]],
            )
        )
    return found


def first_version(acks: Sequence[Mapping[str, Any]], answering: Iterable[str]) -> str:
    """Of a model that is not shipped: the version before the first swap, else the one that answers; empty if nobody says. acks: oldest
    first."""
    swaps = [ack["previous"] for ack in acks if ack["accepted"] and ack["arm"] == Arm.LIVE and ack["previous"]]
    return str(next(iter([*swaps, *sorted(answering)]), ""))


def _by_model(records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        found.setdefault(record["model"], []).append(record)
    return found


def _answering(story: Story) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for status in story.statuses().values():
        for model, version in status["versions"].items():
            found.setdefault(model, set()).add(version)
    return found


def _spans(updates: Sequence[Announcement], shipped: str) -> list[Span]:
    spans: list[Span] = []

    def turn(arm: Arm, version: str | None, share: float, at_ms: int, words: str, actor: str) -> None:
        """From here on `version` is in the arm; None for no version."""
        i = next((i for i in reversed(range(len(spans))) if spans[i].arm == arm and spans[i].to_ms is None), None)
        if i is not None:
            if (spans[i].version, spans[i].share) == (version, share):
                return
            spans[i] = replace(spans[i], to_ms=at_ms)
        if version is not None:
            spans.append(Span(arm, version, at_ms, None, words, actor, share))

    turn(Arm.LIVE, shipped, 1.0, 0, "shipped", "")
    for one in updates:
        turn(Arm.LIVE, one.version, 1.0, one.decided_ms, one.reason, one.actor)
        beside = {challenger.arm: challenger for challenger in one.challengers}
        for arm in (Arm.CANARY, Arm.SHADOW):
            found = beside.get(arm)
            version, share = (found.version, found.share) if found else (None, 0.0)
            turn(arm, version, share, one.decided_ms, one.reason, one.actor)
    return spans


def _report(event: Mapping[str, Any]) -> GateReport:
    try:
        report = json.loads(event["facts"]["report"])
    except (ValueError, RecursionError):
        report = {}
    found = plain(report) if isinstance(report, dict) else {}
    return GateReport(event["run_key"], event["at_ms"], event["kind"], event["words"], found)
