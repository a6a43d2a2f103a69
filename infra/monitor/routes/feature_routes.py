"""Features: their list, their freshness, the values of an entity, and the comparison of the two stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from infra.feature_steps import STEPS
from infra.monitor import package_commands
from infra.monitor.package_commands import EntityFeatures, ViewParity
from infra.monitor.routes.shared_parts import Shown, TheMonitor
from infra.monitor.watching.snapshot import Snapshot
from schemas.features import ONLINE_VIEWS

router = APIRouter(default_response_class=Shown)
EntityId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


@dataclass(frozen=True)
class FeatureAbout:
    """default: what a reader gets, marked as such, where there is no value."""

    view: str
    entity: str
    name: str
    kind: str
    default: Any
    meaning: str


@dataclass(frozen=True)
class FeatureStep:
    """lag, lag_s and rate: as the last look saw them; null where the group committed nothing."""

    step: str
    group: str
    topic: str
    lag: float | None
    lag_s: float | None
    rate: float | None


@dataclass(frozen=True)
class Features:
    features: list[FeatureAbout]
    steps: list[FeatureStep]


@dataclass(frozen=True)
class Parity:
    views: list[ViewParity]


@router.get("/api/features")
def features(monitor: TheMonitor) -> Features:
    """Every feature, and how far behind each step on its way is."""
    found = [
        FeatureAbout(view.name, view.entity, one.name, one.kind.value, one.default, one.meaning)
        for view in ONLINE_VIEWS
        for one in view.features
    ]
    return Features(found, _steps(monitor.watch.latest()))


@router.get("/api/parity")
async def parity(monitor: TheMonitor, sample: Annotated[int, Field(ge=1, le=1_000)] = 100) -> Parity:
    """The online store against the archive, feature by feature, of a sample of entities."""
    return Parity(await monitor.shared.ask(("parity", sample), lambda: package_commands.parity(monitor.settings, sample)))


@router.get("/api/features/{entity}/{entity_id}")
async def feature_values(monitor: TheMonitor, entity: Literal["user", "item"], entity_id: EntityId) -> EntityFeatures:
    """What the online store holds now, with its age."""
    question = ("values", entity, entity_id)
    return await monitor.shared.ask(question, lambda: package_commands.values(monitor.settings, entity, entity_id))


def _steps(snapshot: Snapshot) -> list[FeatureStep]:
    found = []
    for words, group, topic in STEPS:
        edge = snapshot.groups[group].edges.get(topic.name) if group in snapshot.groups else None
        figures = (edge.lag, edge.lag_s, edge.rate) if edge else (None, None, None)
        found.append(FeatureStep(words, group, topic.name, *figures))
    return found
