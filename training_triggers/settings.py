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
    retrain_entries: int = setting(0, "answers of a version after which it is trained anew, whatever its figures say; 0 is never")
    retrain_age_s: float = setting(0.0, "seconds after which it is; 0 is never")
    cool_down_s: float = setting(600.0, "between two requests to train a model")
    runs_a_day: int = setting(6, "requests to train a model within 24 hours, at most")
    runs: str = setting("", "folder of training runs; `up` sets it")
    data: str = setting("", "folder of the public data sets, for trainers that know them")
    window_s: float = setting(86_400.0, "how far back a run's window of recorded requests goes")
    window_requests: int = setting(20_000, "requests of a run's window, at most")
    learn_labelled: int = setting(300, "labelled requests since the drift that a run waits for")
    label_wait_s: float = setting(3_600.0, "how long it waits for them")
    train_threads: int = setting(1, "threads of a trainer, which is also niced: serving goes first")
    gate_margin: float = setting(0.01, "by how much a candidate may be worse, with 95 % confidence")
    gate_labelled: int = setting(100, "labelled requests below which labels decide nothing, and the answers must agree")
    canary_share: float = setting(0.2, "of the keys that a canary answers")
    canary_labelled: int = setting(150, "labelled answers of a canary before it may take over")
    canary_margin: float = setting(0.05, "by how much a canary may be worse, with 95 % confidence at all times")
    canary_unlabelled: int = setting(2_000, "answers of a canary after which the gate's verdict is enough, where no label comes")
    canary_most_s: float = setting(7_200.0, "longest time of a canary; what is not shown to be as good is taken back")
    watch_s: float = setting(86_400.0, "how long a version that took over is watched, and brought back where it proves worse")
