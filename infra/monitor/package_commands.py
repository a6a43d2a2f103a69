"""Information from other packages, by running their commands, because infra never imports those packages: one process each,
which takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.local import loop_processes, run_state
from infra.monitor.plain import picked
from infra.running import command_environment
from infra.settings import StackSettings
from infra.subcommands import run_json
from schemas.errors import InvalidRequest

LIMIT_S = 30.0


@dataclass(frozen=True)
class RegisteredVersion:
    """number: MLflow's. version: ours, which workers name in results."""

    name: str
    number: str
    version: str
    uri: str
    digest: str
    champion: bool
    created_ms: int
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class RegisteredVersions:
    """registry: address of the MLflow server, null where none runs. versions: newest first."""

    registry: str | None
    versions: list[RegisteredVersion]


@dataclass(frozen=True)
class AccuracyHistory:
    """By bin of time: its start, answers with a label, those that were right, and who gave them."""

    model: str
    at_ms: list[int]
    n: list[int]
    right: list[int]
    versions: list[str]


@dataclass(frozen=True)
class Blindness:
    """What the detector of a version does not see, in sentences."""

    model: str
    version: str
    detector: str
    blind: list[str]


@dataclass(frozen=True)
class RecentEvent:
    item: str
    kind: str
    at_ms: int


@dataclass(frozen=True)
class EntityFeatures:
    """What the online store holds of an entity. state: fresh, stale or missing. recent: a user's last events with an item, newest
    first."""

    view: str
    entity: str
    state: str
    event_age_s: float | None
    changed_ms: int
    valid_until_ms: int
    values: dict[str, Any]
    recent: list[RecentEvent]


@dataclass(frozen=True)
class ViewParity:
    """Entities of a sample in both stores. features: of each. not_compared: one store had what the other could not have yet. different:
    by feature, how many entities differ. problems: why the comparison is no proof, in sentences."""

    view: str
    features: int
    entities: int
    sampled: int
    not_compared: int
    different: dict[str, int]
    agrees: bool
    problems: list[str]


def versions(settings: StackSettings, name: str) -> RegisteredVersions:
    where = command_environment(settings)
    if not where["MILLRACE_MLFLOW"]:
        return RegisteredVersions(None, [])
    found = run_json("training_triggers", "list", name, limit_s=LIMIT_S, **where)
    return RegisteredVersions(where["MILLRACE_MLFLOW"], [picked(RegisteredVersion, one) for one in found])


def accuracy(settings: StackSettings, name: str, hours: float) -> AccuracyHistory:
    (found,) = run_json(
        "training_triggers", "accuracy", name, "--hours", str(hours), limit_s=LIMIT_S, **command_environment(settings)
    )
    return picked(AccuracyHistory, found)


def blindness(settings: StackSettings) -> list[Blindness]:
    """For each watched version, and for models whose answers have no label."""
    return [
        picked(Blindness, one) for one in run_json("training_triggers", "drift", limit_s=LIMIT_S, **command_environment(settings))
    ]


def values(settings: StackSettings, entity: str, entity_id: str) -> EntityFeatures:
    (found,) = run_json("feature_jobs", "get", entity, "--", entity_id, limit_s=LIMIT_S, **_with_store(settings))
    return picked(EntityFeatures, found | {"recent": [picked(RecentEvent, one) for one in found["recent"]]})


def parity(settings: StackSettings, sample: int) -> list[ViewParity]:
    found = run_json("feature_jobs", "parity", "--sample", str(sample), limit_s=LIMIT_S, **_with_store(settings))
    return [picked(ViewParity, one) for one in found]


def _with_store(settings: StackSettings) -> dict[str, str]:
    running = run_state.read(settings.run_folder)
    if not running.redis:
        raise InvalidRequest("no online store runs: `./millrace up --with features` starts it")
    return loop_processes.process_environment(settings, running)
