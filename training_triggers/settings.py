"""Settings of training and promotion, read once."""

from __future__ import annotations

from dataclasses import dataclass

from processors.settings import GroupSettings
from streams.settings import setting


@dataclass(frozen=True)
class TriggerSettings(GroupSettings):
    mlflow: str = setting("", "address of the MLflow server")
    window: int = setting(1_000, "entries of a drift baseline and of each window that is compared with it")
    answers_window: int = setting(200, "labelled answers of an accuracy baseline and of each window")
    in_a_row: int = setting(2, "windows in a row that must differ before it counts as drift")
    cool_down_s: float = setting(600.0, "between two requests to train a model")
    runs_a_day: int = setting(6, "requests to train a model within 24 hours, at most")
