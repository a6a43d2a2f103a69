"""`./millrace config show`: every setting of every package, its value and the source of the value."""

from __future__ import annotations

import os
from dataclasses import asdict, astuple, replace
from importlib import import_module
from typing import Any

from infra import console, redact
from infra.settings import StackSettings
from streams.process.settings import origins
from streams.terminal_text import as_json as json_line

# Title, package and class. Packages that infra does not import are loaded by name: only their settings are needed here.
OTHER_SETTINGS = (
    ("worker", "inference_workers", "WorkerSettings"),
    ("chat worker", "inference_workers.chat_service", "ChatSettings"),
    ("chat engine", "inference_workers.chat", "EngineSettings"),
    ("chat server", "inference_workers.chat_remote", "ServerSettings"),
    ("OpenAI door", "infra.openai_door", "DoorSettings"),
    ("media", "inference_workers", "MediaSettings"),
    ("recommendation", "inference_workers.recommending", "RecommendationSettings"),
    ("vectors", "inference_workers.vectors", "VectorSettings"),
    ("model versions", "inference_workers.models", "ModelSettings"),
    ("processors", "processors", "ProcessorSettings"),
    ("views", "processors", "ViewSettings"),
    ("features", "feature_jobs", "FeatureSettings"),
    ("training", "training_triggers", "TriggerSettings"),
)


def config(as_json: bool) -> None:
    classes: list[tuple[str, Any]] = [("stack", StackSettings)]
    classes += [(title, getattr(import_module(f"{package}.settings"), name)) for title, package, name in OTHER_SETTINGS]
    for title, settings_class in classes:
        settings = [replace(setting, value=redact.text(setting.value)) for setting in origins(settings_class, os.environ)]
        if as_json:
            for setting in settings:
                print(json_line({"part": title, **asdict(setting)}), flush=True)
            continue
        console.table(title, ("variable", "value", "origin", "meaning"), [astuple(setting) for setting in settings])
        console.out.print()
