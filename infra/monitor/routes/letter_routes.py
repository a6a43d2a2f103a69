"""Dead letters: groups by cause, the letters of a topic, and redrives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from infra.audit import Position
from infra.monitor import letters, permits, safety
from infra.monitor.letters import DeadLetter, DeadLetters, Letter, LetterGroup
from infra.monitor.plain import extended
from infra.monitor.redrive import Order, RedrivePlan, RedriveRun
from infra.monitor.routes.shared_parts import Body, Int32, Int64, Operator, Shown, TheMonitor, TopicName
from infra.monitor.safety import Actor
from schemas.errors import InvalidRequest

router = APIRouter(default_response_class=Shown)
Name = Annotated[str, Field(max_length=200)]


@dataclass(frozen=True)
class LetterGroups:
    """groups: the most waiting first. run: the redrive that is under way, or the last one. not_shown: older letters, which are on the
    topics alone."""

    groups: list[LetterGroup]
    run: RedriveRun | None
    not_shown: int


@dataclass(frozen=True)
class LetterPage:
    """letters: the newest, newest first. n: how many there are in all."""

    letters: list[DeadLetter]
    n: int


class Chosen(Body):
    """value: the record in place of the one that failed, as JSON; as it was where there is none."""

    topic: TopicName
    partition: Int32
    offset: Int64
    value: dict[str, Any] | None = None


class Redrive(Body):
    """letters: chosen ones; or all of a topic that wait, of one step and code."""

    letters: Annotated[list[Chosen], Field(max_length=5_000, default_factory=list)]
    all_of: TopicName | None = None
    step: Name | None = None
    error_code: Name | None = None
    dry_run: bool = True
    rate_per_s: Annotated[float, Field(ge=1, le=10_000, allow_inf_nan=False)] = 100.0
    reason: Annotated[str, Field(max_length=500)] = ""


@router.get("/api/deadletters")
def letter_groups(monitor: TheMonitor) -> LetterGroups:
    """Groups by cause, and how far a redrive is."""
    known = monitor.story.dead_letters()
    return LetterGroups(known.groups(), monitor.actions.redrives.run(), known.not_shown)


@router.get("/api/deadletters/{topic}")
def letters_of(
    monitor: TheMonitor,
    topic: TopicName,
    step: Name | None = None,
    code: Name | None = None,
    waiting: bool = False,
    limit: Annotated[int, Field(ge=1, le=1_000)] = 200,
) -> LetterPage:
    """The newest first."""
    known = monitor.story.dead_letters()
    found = [one for one in known.of(topic, step, code) if not waiting or one.position not in known.redriven]
    shown = [extended(DeadLetter, one, redriven=known.redriven.get(one.position)) for one in found[:limit]]
    return LetterPage(shown, len(found))


@router.post("/api/deadletters/redrive")
def redrive(monitor: TheMonitor, body: Redrive, actor: Operator) -> RedrivePlan:
    """With dry_run, what would be sent and what not, and why; else it begins, and `/api/deadletters` tells how far it is."""
    known = monitor.story.dead_letters()
    if body.all_of is not None:
        of_cause = known.of(body.all_of, body.step, body.error_code)
        chosen, edited = [one for one in of_cause[::-1] if one.position not in known.redriven], dict[Position, Any]()
    else:
        chosen, edited = _chosen(known, body.letters, actor)
    if body.dry_run:
        return monitor.actions.redrives.plan(chosen, edited)
    return monitor.actions.redrives.begin(chosen, Order(edited, body.rate_per_s, actor, body.reason))


def _chosen(known: DeadLetters, named: list[Chosen], actor: Actor) -> tuple[list[Letter], dict[Position, Any]]:
    """Each letter once, and by position the records that replace theirs. Raises InvalidRequest for a position that is not a
    dead letter, or that appears twice with two records; NotAllowed for a record that may not be changed."""
    if not named:
        raise InvalidRequest("no letters are chosen: name some in letters, or a topic in all_of")
    chosen: dict[Position, Any] = {}
    for one in named:
        position = (one.topic, one.partition, one.offset)
        words = f"{one.topic}/{one.partition}/{one.offset}"
        if position not in known.by_position:
            raise InvalidRequest(f"{words} is no dead letter")
        if chosen.setdefault(position, one.value) != one.value:
            raise InvalidRequest(f"{words} is named twice, with two different records")
    edited = {position: _mended(position[0], value, actor) for position, value in chosen.items() if value is not None}
    return [known.by_position[position] for position in chosen], edited


def _mended(topic: str, value: dict[str, Any], actor: Actor) -> dict[str, Any]:
    why = permits.unmendable(topic)
    if why is not None:
        raise safety.NotAllowed(f"{topic}: {why}")
    return permits.signed(letters.reader_of(topic).topic.name, value, actor.name)
