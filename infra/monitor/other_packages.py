"""What other packages know: features, versions of the model registry, examples. Read by their own commands, never imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.feature_steps import STEPS
from infra.local import loop_processes, run_state
from infra.running import command_environment
from infra.settings import StackSettings
from infra.subcommands import run_json
from schemas import avro
from schemas.errors import InvalidRequest
from schemas.features import VIEWS

LIMIT_S = 30.0


def versions(settings: StackSettings, name: str) -> dict[str, Any]:
    where = command_environment(settings)
    if not where["MILLRACE_MLFLOW"]:
        return {"registry": None, "versions": []}
    return {
        "registry": where["MILLRACE_MLFLOW"],
        "versions": run_json("training_triggers", "list", name, limit_s=LIMIT_S, **where),
    }


def accuracy(settings: StackSettings, name: str, hours: float) -> dict[str, Any]:
    (found,) = run_json(
        "training_triggers", "accuracy", name, "--hours", str(hours), limit_s=LIMIT_S, **command_environment(settings)
    )
    return found


def values(settings: StackSettings, entity: str, entity_id: str) -> dict[str, Any]:
    (found,) = run_json("feature_jobs", "get", entity, "--", entity_id, limit_s=LIMIT_S, **_with_store(settings))
    return found


def parity(settings: StackSettings, sample: int) -> list[dict[str, Any]]:
    """A view each: how many entities were compared in both stores, which features differ, and why it is no proof where it is none."""
    return run_json("feature_jobs", "parity", "--sample", str(sample), limit_s=LIMIT_S, **_with_store(settings))


def _with_store(settings: StackSettings) -> dict[str, str]:
    running = run_state.read(settings.run_folder)
    if not running.redis:
        raise InvalidRequest("no online store runs: `./millrace up --with features` starts it")
    return loop_processes.process_environment(settings, running)


def features() -> list[dict[str, Any]]:
    return [
        {
            "view": view.name,
            "entity": view.entity,
            "name": one.name,
            "kind": one.kind.value,
            "default": one.default,
            "meaning": one.meaning,
        }
        for view in VIEWS
        for one in view.features
    ]


def steps(snapshot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How far each step is behind, as the last look saw it; None where its group committed nothing."""
    groups = snapshot.get("groups", {})
    return [
        {
            "step": words,
            "group": group,
            "topic": topic.name,
            **(groups.get(group, {"edges": {}})["edges"].get(topic.name) or {"lag": None, "lag_s": None}),
        }
        for words, group, topic in STEPS
    ]


def examples(record: str | None) -> dict[str, Any]:
    return {} if record is None else avro.examples(record)
