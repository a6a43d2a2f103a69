"""What a token unlocks."""

# no `from __future__ import annotations` here: FastAPI reads the annotations, and some of them are made inside `add`
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header
from pydantic import BaseModel, ConfigDict, Field

from infra.monitor import pipeline, safety, servers
from infra.monitor.letters import Letter, Position
from infra.monitor.monitor import Int32, Int64, Model, Monitor, Topic, is_of
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


@dataclass(frozen=True)
class Actor:
    name: str
    role: str


def _allowed(monitor: Monitor, *roles: str) -> Callable[..., Actor]:
    def check(
        authorization: Annotated[str | None, Header()] = None,
        x_actor: Annotated[str, Header(max_length=64, pattern=r"^[\w.@ -]+$")] = "somebody",
    ) -> Actor:
        role = safety.role_of(authorization, monitor.tokens)
        if role is None:
            raise safety.NotAllowed("this needs a token: `./millrace monitor --tokens` prints them")
        if role not in roles:
            raise safety.NotAllowed(f"this needs the token of {' or '.join(roles)}; yours is that of {role}")
        return Actor(x_actor, role)

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
        about = pipeline.about(topic)
        if about is None or about["kind"] != "topic":
            raise InvalidRequest(f"{topic} is not a topic that people produce to")
        return actions.produce(topic, body.key, body.value, body.headers, actor.name, actor.role, about["subject"])

    @app.post("/api/deadletters/redrive")
    def redrive(body: Redrive, actor: Operator) -> dict[str, Any]:
        """With dry_run, what would be sent and what not, and why; else it begins, and `/api/deadletters` tells how far it is."""
        chosen, edited = _chosen(monitor, body)
        if body.dry_run:
            return actions.plan(chosen, edited)
        return actions.redrive(chosen, edited, body.rate_per_s, actor.name, actor.role, body.reason)

    @app.post("/api/models/{name}/promote")
    def promote(name: Model, body: Promote, actor: Releaser) -> dict[str, Any]:
        words = ["promote", name, body.source, f"--reason={body.reason}"]
        return actions.command(words, "promote", name, actor.name, actor.role, f"{body.source}: {body.reason}")

    @app.post("/api/models/{name}/rollback")
    def rollback(name: Model, body: Reason, actor: Releaser) -> dict[str, Any]:
        return actions.command(
            ["rollback", name, f"--reason={body.reason}"], "rollback", name, actor.name, actor.role, body.reason
        )

    @app.post("/api/models/{name}/challenge")
    def challenge(name: Model, body: Challenge, actor: Releaser) -> dict[str, Any]:
        """A version beside the live one; without a source that arm ends."""
        words = ["challenge", name, *([body.source] if body.source else []), "--arm", body.arm, "--share", str(body.share)]
        said = f"{body.arm} {body.source or 'ends'}, {body.share:.0%}: {body.reason}"
        return actions.command([*words, f"--reason={body.reason}"], "challenge", name, actor.name, actor.role, said)

    @app.post("/api/models/{name}/train")
    def train(name: Model, body: Reason, actor: Operator) -> dict[str, Any]:
        """Ask for a training run, as drift does."""
        return actions.command(["request", name, f"--reason={body.reason}"], "train", name, actor.name, actor.role, body.reason)

    @app.post("/api/connectors/{name}/restart")
    def restart(name: Annotated[str, Field(min_length=1, max_length=200)], actor: Operator) -> dict[str, str]:
        address = servers.connect(monitor.settings)
        if address is None:
            raise InvalidRequest(
                "no Kafka Connect is known: `./millrace up --with connect` starts one, MILLRACE_CONNECT names one"
            )
        servers.Connect(address).restart(name)
        actions.audited("restart", name, actor.name, actor.role, "the connector and its tasks")
        return {"restarted": name}


def _chosen(monitor: Monitor, body: Redrive) -> tuple[list[Letter], dict[Position, Any]]:
    """Raises InvalidRequest for a position that is no dead letter."""
    with monitor.watch.lock:
        known, redriven = dict(monitor.watch.story.letters), dict(monitor.watch.story.redriven)
    if body.all_of is not None:
        found = [
            one for one in known.values() if is_of(one, body.all_of, body.step, body.error_code) and one.position not in redriven
        ]
        return found, {}
    if not body.letters:
        raise InvalidRequest("no letters are chosen: name some in letters, or a topic in all_of")
    chosen, edited = [], {}
    for one in body.letters:
        position = (one.topic, one.partition, one.offset)
        if position not in known:
            raise InvalidRequest(f"{one.topic}/{one.partition}/{one.offset} is no dead letter")
        chosen.append(known[position])
        if one.value is not None:
            edited[position] = one.value
    return chosen, edited
