"""Settings of drift detection, training runs, the gate and the rollout, read once at start."""

from __future__ import annotations

from dataclasses import dataclass

from streams.process.group_settings import GroupSettings
from streams.process.settings import setting


@dataclass(frozen=True)
class TriggerSettings(GroupSettings):
    mlflow: str = setting("", "address of the MLflow server")
    drift_window_entries: int = setting(
        1_000, "entries of a drift baseline and of each window that is compared with it", 50, 20_000, was="window"
    )
    accuracy_window_answers: int = setting(
        200,
        "labelled answers of an accuracy baseline and of each window that is compared with it",
        50,
        20_000,
        was="answers_window",
    )
    drift_baseline_s: float = setting(
        86_400.0,
        "seconds that a baseline must span before its findings start training runs: the longest rhythm of the traffic",
        0,
        2_592_000,
        was="baseline_s",
    )
    drift_windows_in_a_row: int = setting(
        2, "consecutive windows that must differ from the baseline before a change counts as drift", 1, 100, was="in_a_row"
    )
    retrain_entries: int = setting(0, "retrain a version each time it has given this many answers; 0 disables", 0, 1_000_000_000)
    retrain_age_s: float = setting(
        0.0, "retrain a version each time this many seconds have passed since its first answer; 0 disables", 0, 315_360_000
    )
    cool_down_s: float = setting(
        600.0,
        "seconds from the end of a model's run to the next run that drift starts; doubled by each run in a row without a new version",
        0,
        2_592_000,
    )
    drift_runs_per_day: int = setting(
        6, "runs of a model that drift may start within 24 hours; 0 disables", 0, 1_000, was="runs_a_day"
    )
    runs_folder: str = setting("", "folder of training runs, an absolute path; `./millrace up` sets it", was="runs")
    data: str = setting("", "folder of the public data sets, for trainers that use them")
    training_window_s: float = setting(
        86_400.0, "age in seconds of the oldest recorded requests that a run trains on", 1, 2_592_000, was="window_s"
    )
    training_window_requests: int = setting(
        20_000, "maximum number of recorded requests in a run's window; the newest are used", 1, 1_000_000, was="window_requests"
    )
    training_min_labelled: int = setting(
        600, "labelled requests since the drift that a run waits for", 1, 1_000_000, was="learn_labelled"
    )
    training_label_wait_s: float = setting(3_600.0, "maximum seconds that a run waits for labels", 0, 604_800, was="label_wait_s")
    training_threads: int = setting(
        1, "threads of a trainer; its process has a low priority (nice), so that serving goes first", 1, 256, was="train_threads"
    )
    gate_margin: float = setting(0.02, "accuracy that a candidate may lose against the champion, at 95 % confidence", 0.001, 0.5)
    gate_min_labelled: int = setting(
        200,
        "independent labelled requests needed to judge by labels; with fewer, the answers must agree with the champion's",
        1,
        1_000_000,
        was="gate_labelled",
    )
    gate_class_margin: float = setting(
        0.05,
        "accuracy that a candidate may lose on a class, at 95 % confidence, both where the class holds and where it does not",
        0.001,
        0.5,
    )
    gate_class_min_labelled: int = setting(
        75,
        "labelled requests needed to judge a class by labels, both where it holds and where it does not",
        1,
        1_000_000,
        was="gate_class_labelled",
    )
    gate_few_labels: str = setting(
        "agree", "rule for a class with fewer labels: agree (its decisions must stay the same) or refuse", was="gate_few"
    )
    canary_share: float = setting(0.2, "share of keys answered by a canary (0-1)", 0.001, 0.999)
    canary_min_labelled: int = setting(
        150, "labelled answers that a canary needs before it may take over", 1, 1_000_000, was="canary_labelled"
    )
    canary_margin: float = setting(0.05, "accuracy that a canary may lose, at 95 % confidence at all times", 0, 0.5)
    canary_unlabelled_answers: int = setting(
        2_000,
        "answers of a canary after which it takes over by the gate's verdict, if too few labels arrive",
        1,
        1_000_000_000,
        was="canary_unlabelled",
    )
    canary_max_s: float = setting(
        7_200.0,
        "maximum seconds of a canary; a canary that is not shown to be as good by then is ended",
        1,
        2_592_000,
        was="canary_most_s",
    )
    watch_s: float = setting(
        86_400.0, "seconds for which a new live version is watched; it is rolled back if it proves worse", 0, 2_592_000
    )
    watch_share: float = setting(
        0.2, "share of requests that the previous version also answers, as a shadow, during the watch (0-1)", 0.001, 1
    )
