"""Settings of training and promotion, read once."""

from __future__ import annotations

from dataclasses import dataclass

from streams.process.group_settings import GroupSettings
from streams.process.settings import setting


@dataclass(frozen=True)
class TriggerSettings(GroupSettings):
    mlflow: str = setting("", "address of the MLflow server")
    window: int = setting(1_000, "entries of a drift baseline and of each window that is compared with it", 50, 20_000)
    answers_window: int = setting(200, "labelled answers of an accuracy baseline and of each window", 50, 20_000)
    baseline_s: float = setting(
        86_400.0,
        "seconds that a baseline spans before its findings ask for training: the longest rhythm of the traffic",
        0,
        2_592_000,
    )
    in_a_row: int = setting(2, "windows in a row that must differ before it counts as drift", 1, 100)
    retrain_entries: int = setting(
        0, "answers of a version after which it is trained anew, whatever its figures say; 0 is never", 0, 1_000_000_000
    )
    retrain_age_s: float = setting(0.0, "seconds after which it is; 0 is never", 0, 315_360_000)
    cool_down_s: float = setting(
        600.0, "from the end of a run of a model to its next; doubled by each in a row that led to no new version", 0, 2_592_000
    )
    runs_a_day: int = setting(6, "runs of a model that drift may ask for within 24 hours; 0 switches them off", 0, 1_000)
    runs: str = setting("", "folder of training runs; `up` sets it")
    data: str = setting("", "folder of the public data sets, for trainers that know them")
    window_s: float = setting(86_400.0, "how far back a run's window of recorded requests goes", 1, 2_592_000)
    window_requests: int = setting(20_000, "requests of a run's window, at most", 1, 1_000_000)
    learn_labelled: int = setting(600, "labelled requests since the drift that a run waits for", 1, 1_000_000)
    label_wait_s: float = setting(3_600.0, "how long it waits for them", 0, 604_800)
    train_threads: int = setting(1, "threads of a trainer, which is also niced: serving goes first", 1, 256)
    gate_margin: float = setting(0.02, "by how much a candidate may be worse, with 95 % confidence", 0.001, 0.5)
    gate_labelled: int = setting(
        200, "independent labelled requests below which labels decide nothing, and the answers must agree", 1, 1_000_000
    )
    gate_class_margin: float = setting(
        0.05, "by how much it may be worse on one class, where it holds and where it does not", 0.001, 0.5
    )
    gate_class_labelled: int = setting(
        75, "labelled requests of a class, where it holds and where not, below which labels do not judge it", 1, 1_000_000
    )
    gate_few: str = setting("agree", "what becomes of a class with fewer: agree (its decisions must stay) or refuse")
    canary_share: float = setting(0.2, "of the keys that a canary answers", 0.001, 0.999)
    canary_labelled: int = setting(150, "labelled answers of a canary before it may take over", 1, 1_000_000)
    canary_margin: float = setting(0.05, "by how much a canary may be worse, with 95 % confidence at all times", 0, 0.5)
    canary_unlabelled: int = setting(
        2_000, "answers of a canary after which the gate's verdict is enough, where no label comes", 1, 1_000_000_000
    )
    canary_most_s: float = setting(
        7_200.0, "longest time of a canary; what is not shown to be as good is taken back", 1, 2_592_000
    )
    watch_s: float = setting(
        86_400.0, "how long a version that took over is watched, and brought back where it proves worse", 0, 2_592_000
    )
    watch_share: float = setting(
        0.2, "of the requests, that the version before it is asked in secret while it is watched", 0.001, 1
    )
