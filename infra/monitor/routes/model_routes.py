"""Models: the history of live versions, versions and accuracy; and changes of the live version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from infra.monitor import package_commands
from infra.monitor.package_commands import AccuracyHistory, RegisteredVersions
from infra.monitor.routes.shared_parts import Body, ModelName, Operator, Reason, Releaser, Shown, TheMonitor
from infra.monitor.watching import model_timeline
from infra.monitor.watching.model_timeline import Model
from schemas.generated import ModelUpdate, TrainingRequest

router = APIRouter(default_response_class=Shown)
Source = Annotated[str, Field(min_length=1, max_length=1_000, pattern=r"^[^-\x00][^\x00]*$")]


@dataclass(frozen=True)
class Models:
    """By name."""

    models: list[Model]


class Promote(Body):
    source: Source
    reason: Reason


class Reasoned(Body):
    reason: Reason


class Challenge(Reasoned):
    arm: Literal["canary", "shadow"]
    source: Source | None = None
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.1


@router.get("/api/models")
def models(monitor: TheMonitor) -> Models:
    """Each model: who was live when, who stands beside it, what each worker said, and the reports of the gate."""
    return Models(model_timeline.stories(monitor.story))


@router.get("/api/models/{name}/versions")
async def model_versions(monitor: TheMonitor, name: ModelName) -> RegisteredVersions:
    """Versions of the MLflow registry, with their figures; none where no registry runs."""
    return await monitor.shared.ask(("versions", name), lambda: package_commands.versions(monitor.settings, name))


@router.get("/api/models/{name}/accuracy")
async def model_accuracy(
    monitor: TheMonitor, name: ModelName, hours: Annotated[float, Field(gt=0, le=168)] = 1.0
) -> AccuracyHistory:
    """How often it was right over time, of the answers whose label came."""
    return await monitor.shared.ask(("accuracy", name, hours), lambda: package_commands.accuracy(monitor.settings, name, hours))


@router.post("/api/models/{name}/promote")
def promote(monitor: TheMonitor, name: ModelName, body: Promote, actor: Releaser) -> ModelUpdate:
    """The version answers from here on."""
    words = ["promote", name, body.source, f"--reason={body.reason}"]
    return ModelUpdate.from_dict(monitor.actions.command(words, "promote", name, actor, f"{body.source}: {body.reason}"))


@router.post("/api/models/{name}/rollback")
def rollback(monitor: TheMonitor, name: ModelName, body: Reasoned, actor: Releaser) -> ModelUpdate:
    """The version before the last promotion answers again."""
    words = ["rollback", name, f"--reason={body.reason}"]
    return ModelUpdate.from_dict(monitor.actions.command(words, "rollback", name, actor, body.reason))


@router.post("/api/models/{name}/challenge")
def challenge(monitor: TheMonitor, name: ModelName, body: Challenge, actor: Releaser) -> ModelUpdate:
    """A version beside the live one; without a source that arm ends."""
    source = [body.source] if body.source else []
    words = ["challenge", name, *source, "--arm", body.arm, "--share", str(body.share), f"--reason={body.reason}"]
    said = f"{body.arm} {body.source or 'ends'}, {body.share:.0%}: {body.reason}"
    return ModelUpdate.from_dict(monitor.actions.command(words, "challenge", name, actor, said))


@router.post("/api/models/{name}/train")
def train(monitor: TheMonitor, name: ModelName, body: Reasoned, actor: Operator) -> TrainingRequest:
    """Ask for a training run, as drift does."""
    words = ["request", name, f"--reason={body.reason}"]
    return TrainingRequest.from_dict(monitor.actions.command(words, "train", name, actor, body.reason))
