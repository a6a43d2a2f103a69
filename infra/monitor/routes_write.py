"""What a token unlocks."""

# no `from __future__ import annotations` here: FastAPI reads the annotations, and some of them are made inside `add`
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header
from pydantic import BaseModel, ConfigDict, Field

from infra.audit import Position
from infra.monitor import letters, permits, safety
from infra.monitor.letters import Letter
from infra.monitor.redrive import Order
from infra.monitor.safety import Actor
from infra.monitor.services import Int32, Int64, Model, Monitor, Topic, is_of
from infra.monitor.watching import servers
from schemas.errors import InvalidRequest

Text = Annotated[str, Field(max_length=500)]
Reasoned = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]
Source = Annotated[str, Field(min_length=1, max_length=1_000, pattern=r"^[^-\x00][^\x00]*$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Produce(Body):
    key: Annotated[str, Field(max_length=4_096)] = ""
    value: dict[str, Any]
    headers: dict[Annotated[str, Field(max_length=128)], Annotated[str, Field(max_length=8_192)]] = {}


class Chosen(Body):
    topic: Topic
    partition: Int32
    offset: Int64
    value: dict[str, Any] | None = None


class Redrive(Body):
    """letters: chosen ones; or all of a topic that wait, of one step and code."""

    letters: Annotated[list[Chosen], Field(max_length=5_000)] = []
    all_of: Topic | None = None
    step: Annotated[str, Field(max_length=200)] | None = None
    error_code: Annotated[str, Field(max_length=200)] | None = None
    dry_run: bool = True
    rate_per_s: Annotated[float, Field(ge=1, le=10_000, allow_inf_nan=False)] = 100.0
    reason: Text = ""


class Promote(Body):
    source: Source
    reason: Reasoned


class Reason(Body):
    reason: Reasoned


class Challenge(Reason):
    arm: Literal["canary", "shadow"]
    source: Source | None = None
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.1


def _allowed(monitor: Monitor, *roles: str) -> Callable[..., Actor]:
    def check(authorization: Annotated[str | None, Header()] = None) -> Actor:
        actor = safety.actor_of(authorization, monitor.tokens)
        if actor is None:
            raise safety.NotAllowed("this needs a token: `./millrace monitor --tokens` prints them")
        if actor.role not in roles:
            raise safety.NotAllowed(f"this needs the token of {' or '.join(roles)}; yours is that of {actor.role}")
        return actor

    return check


def add(app: FastAPI, monitor: Monitor) -> None:
    actions = monitor.actions
    Operator = Annotated[Actor, Depends(_allowed(monitor, "operator"))]  # noqa: N806
    Releaser = Annotated[Actor, Depends(_allowed(monitor, "releaser"))]  # noqa: N806
    Anybody = Annotated[Actor, Depends(_allowed(monitor, *safety.ROLES))]  # noqa: N806

    @app.post("/api/session")
    def session(actor: Anybody) -> dict[str, str]:
        """What this token allows."""
        return {"role": actor.role, "actor": actor.name}

    @app.post("/api/topics/{topic}/records")
    def produce(topic: Topic, body: Produce, actor: Operator) -> dict[str, Any]:
        """One record on a topic that people outside write."""
        return actions.produce(permits.producible(topic), body.key, body.value, body.headers, actor)

    @app.post("/api/deadletters/redrive")
    def redrive(body: Redrive, actor: Operator) -> dict[str, Any]:
        """With dry_run, what would be sent and what not, and why; else it begins, and `/api/deadletters` tells how far it is."""
        chosen, edited = _chosen(monitor, body, actor)
        if body.dry_run:
            return actions.redrives.plan(chosen, edited)
        return actions.redrives.begin(chosen, Order(edited, body.rate_per_s, actor, body.reason))

    @app.post("/api/models/{name}/promote")
    def promote(name: Model, body: Promote, actor: Releaser) -> dict[str, Any]:
        words = ["promote", name, body.source, f"--reason={body.reason}"]
        return actions.command(words, "promote", name, actor, f"{body.source}: {body.reason}")

    @app.post("/api/models/{name}/rollback")
    def rollback(name: Model, body: Reason, actor: Releaser) -> dict[str, Any]:
        return actions.command(["rollback", name, f"--reason={body.reason}"], "rollback", name, actor, body.reason)

    @app.post("/api/models/{name}/challenge")
    def challenge(name: Model, body: Challenge, actor: Releaser) -> dict[str, Any]:
        """A version beside the live one; without a source that arm ends."""
        words = ["challenge", name, *([body.source] if body.source else []), "--arm", body.arm, "--share", str(body.share)]
        said = f"{body.arm} {body.source or 'ends'}, {body.share:.0%}: {body.reason}"
        return actions.command([*words, f"--reason={body.reason}"], "challenge", name, actor, said)

    @app.post("/api/models/{name}/train")
    def train(name: Model, body: Reason, actor: Operator) -> dict[str, Any]:
        """Ask for a training run, as drift does."""
        return actions.command(["request", name, f"--reason={body.reason}"], "train", name, actor, body.reason)

    @app.post("/api/connectors/{name}/restart")
    def restart(name: Annotated[str, Field(min_length=1, max_length=200)], actor: Operator) -> dict[str, str]:
        found = servers.connect(monitor.settings)
        if found is None:
            raise InvalidRequest(
                "no Kafka Connect is known: `./millrace up --with connect` starts one, MILLRACE_CONNECT names one"
            )
        actions.call(lambda: found.restart(name), "restart", name, actor, "the connector and its tasks")
        return {"restarted": name}


def _chosen(monitor: Monitor, body: Redrive, actor: Actor) -> tuple[list[Letter], dict[Position, Any]]:
    """Each letter once. Raises InvalidRequest for a position that is no dead letter, or is named twice with two records; NotAllowed for a
    record that may not be changed."""
    with monitor.watch.lock:
        known, redriven = dict(monitor.watch.story.letters), dict(monitor.watch.story.redriven)
    if body.all_of is not None:
        found = [
            one for one in known.values() if is_of(one, body.all_of, body.step, body.error_code) and one.position not in redriven
        ]
        return found, {}
    if not body.letters:
        raise InvalidRequest("no letters are chosen: name some in letters, or a topic in all_of")
    chosen: dict[Position, Any] = {}
    for one in body.letters:
        position = (one.topic, one.partition, one.offset)
        words = f"{one.topic}/{one.partition}/{one.offset}"
        if position not in known:
            raise InvalidRequest(f"{words} is no dead letter")
        if chosen.setdefault(position, one.value) != one.value:
            raise InvalidRequest(f"{words} is named twice, with two different records")
    edited = {position: _mended(position[0], value, actor) for position, value in chosen.items() if value is not None}
    return [known[position] for position in chosen], edited


def _mended(topic: str, value: dict[str, Any], actor: Actor) -> dict[str, Any]:
    why = permits.unmendable(topic)
    if why is not None:
        raise safety.NotAllowed(f"{topic}: {why}")
    return permits.signed(letters.BY_TOPIC[topic].topic.name, value, actor.name)
