"""What other packages know: features, versions of the model registry, examples. Read by their own commands, never imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from infra import models
from infra.features import STEPS
from infra.local import stack, state
from infra.settings import ROOT, StackSettings
from schemas import avro
from schemas.errors import BrokerUnavailable, InvalidRequest
from schemas.features import VIEWS

LIMIT_S = 30.0


def _asked(words: Sequence[str], env: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a command prints with --json, a line each. Raises InvalidRequest with its last words."""
    command = [sys.executable, "-m", *words, "--json"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BrokerUnavailable(f"no answer in {LIMIT_S:.0f} s") from error
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode and not found:
        raise InvalidRequest((done.stderr.strip().splitlines() or ["it failed without a word"])[-1])
    return found


def versions(settings: StackSettings, name: str) -> dict[str, Any]:
    where = models.where(settings)
    if not where["MILLRACE_MLFLOW"]:
        return {"registry": None, "versions": []}
    return {"registry": where["MILLRACE_MLFLOW"], "versions": _asked(["training_triggers", "list", name], where)}


def accuracy(settings: StackSettings, name: str, hours: float) -> dict[str, Any]:
    (found,) = _asked(["training_triggers", "accuracy", name, "--hours", str(hours)], models.where(settings))
    return found


def values(settings: StackSettings, entity: str, entity_id: str) -> dict[str, Any]:
    (found,) = _asked(["feature_jobs", "get", entity, entity_id], _with_store(settings))
    return found


def parity(settings: StackSettings, sample: int) -> list[dict[str, Any]]:
    """A view each: how many entities were compared in both stores, and which features differ."""
    return _asked(["feature_jobs", "parity", "--sample", str(sample)], _with_store(settings))


def _with_store(settings: StackSettings) -> dict[str, str]:
    running = state.read(settings.run_folder)
    if not running.redis:
        raise InvalidRequest("no online store runs: `./millrace up --with features` starts it")
    return stack.where(settings, running)


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
