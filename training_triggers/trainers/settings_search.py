"""Search for a trainer's settings: Ray Tune with ASHA (Li et al. 2020, "A system for massively parallel hyperparameter tuning").

This is the only module that imports ray. Options of the training request start it: `search_samples`, `search_cpus` per trial, and
`search_NAME=low:high` or `low:high:log` for the range of a setting. An experiment is kept in the run's scratch folder, and a
search that was killed is resumed. Ray runs on this machine's loopback, or on the cluster that RAY_ADDRESS names (not tested).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import BadSettings
from training_triggers.trainers.retrain import Job, TrainingFailed
from training_triggers.trainers.train import Say

STEPS = 16  # per trial, at most
GRACE_STEPS = 2  # before a trial may be stopped
HALVING = 2
SEED = 7
LIMIT_S = 3_600.0
Settings = Mapping[str, float]
Trial = Callable[[Settings], Iterator[float]]  # validation loss after each step of its training; at most STEPS are taken


@dataclass(frozen=True)
class Range:
    low: float
    high: float
    log: bool = False

    @classmethod
    def parse(cls, name: str, text: str) -> Range:
        """`0.1:100` or `0.1:100:log`. Raises BadSettings."""
        parts = text.split(":")
        try:
            values = cls(float(parts[0]), float(parts[1]), parts[2:] == ["log"])
            unknown_scale = len(parts) > 3 or (len(parts) == 3 and not values.log)
            if unknown_scale or not values.low < values.high or (values.log and values.low <= 0):
                raise ValueError
        except (ValueError, IndexError):
            raise BadSettings(
                f"option search_{name} is {text!r}; it takes low:high or low:high:log, low less than high"
            ) from None
        return values


def space_of(job: Job, usual: Mapping[str, Range]) -> dict[str, Range]:
    """The range of each setting: the job's option, or the usual one. Raises BadSettings."""
    return {
        name: Range.parse(name, job.options[f"search_{name}"]) if f"search_{name}" in job.options else values
        for name, values in usual.items()
    }


def best(job: Job, usual: Mapping[str, Range], trial: Trial, say: Say) -> dict[str, float]:
    """The settings with the lowest loss at the end. Raises BadSettings, and TrainingFailed if every trial's loss is NaN."""
    samples, space = int(job.number("search_samples", 20)), space_of(job, usual)
    with _ray():
        from ray import tune

        def run(settings: dict[str, float]) -> None:
            for step, loss in zip(range(STEPS), trial(settings), strict=False):
                tune.report({"loss": loss, "step": step + 1})

        trainable = tune.with_resources(run, {"cpu": job.number("search_cpus", 1)})
        results = _results(trainable, space, samples, (job.scratch / "search").resolve(), say)
    ended = [
        result
        for result in results
        if result.metrics and "loss" in result.metrics and result.metrics["loss"] == result.metrics["loss"]
    ]
    if not ended:
        raise TrainingFailed(f"the loss is NaN in each of the {samples} trials")
    winner = min(ended, key=lambda result: float(result.metrics["loss"]))
    stopped = sum(int(result.metrics["step"]) < STEPS for result in ended)
    settings = {name: float(winner.config[name]) for name in space}
    loss = float(winner.metrics["loss"])
    say(f"best of {len(ended)} trials ({stopped} stopped early): {_text(settings)}, validation loss {loss:.5f}")
    return settings


@contextmanager
def _ray() -> Iterator[None]:
    """Ray, started here unless it runs already. Raises BadSettings if it is not installed."""
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")  # a trial that ended before a kill is not repeated
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
        os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray
    except ImportError as error:
        raise BadSettings(f"{error.name} is not installed: run `./millrace setup tune`") from error
    if ray.is_initialized():
        yield
        return
    ray.init(
        address=os.environ.get("RAY_ADDRESS"),
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        **({} if "RAY_ADDRESS" in os.environ else {"num_cpus": os.cpu_count(), "_node_ip_address": "127.0.0.1"}),
        runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}},
    )
    try:
        yield
    finally:
        ray.shutdown()


def _results(trainable: Any, space: Mapping[str, Range], samples: int, folder: Path, say: Say) -> list[Any]:
    """The trials of this search. One that was killed while Tune wrote its state may have lost its trials, or the plan for those that
    were to come, so after an interrupted search a further one makes up for what is missing."""
    from ray import tune

    results, part, resumed = list[Any](), 0, True
    while resumed and len(results) < samples:
        part += 1
        if part > 1:
            say(f"{samples - len(results)} of {samples} trials are missing and follow")
        name = "trials" if part == 1 else f"trials-{part}"
        resumed = tune.Tuner.can_restore(str(folder / name))
        try:
            results += _tuner(trainable, space, samples - len(results), folder, name, say, resumed).fit()
        except Exception as error:
            if not resumed:
                raise
            say(f"the interrupted search cannot be resumed: {error}")
    return results


def _tuner(trainable: Any, space: Mapping[str, Range], samples: int, folder: Path, name: str, say: Say, resumed: bool) -> Any:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    distributions = {
        name: (tune.loguniform if values.log else tune.uniform)(values.low, values.high) for name, values in space.items()
    }
    if resumed:
        say("an interrupted search is resumed")
        return tune.Tuner.restore(str(folder / name), trainable, restart_errored=True, param_space=distributions)
    config = tune.TuneConfig(
        metric="loss",
        mode="min",
        num_samples=samples,
        time_budget_s=LIMIT_S,
        reuse_actors=True,  # a process of its own for each trial would import torch again
        scheduler=ASHAScheduler(time_attr="step", max_t=STEPS, grace_period=GRACE_STEPS, reduction_factor=HALVING),
    )
    run_config = tune.RunConfig(name=name, storage_path=str(folder), verbose=0, callbacks=[_progress(say, samples)])
    return tune.Tuner(trainable, param_space=distributions, tune_config=config, run_config=run_config)


def _text(settings: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in settings.items())


def _progress(say: Say, samples: int) -> Any:
    from ray import tune

    class Progress(tune.Callback):  # type: ignore[misc]
        """Says one line for each trial that ends."""

        def __init__(self) -> None:
            self._ended = 0

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self._ended += 1
            last = trial.last_result or {}
            loss, steps = last.get("loss", float("nan")), last.get("step", 0)
            settings = _text(trial.config)
            say(f"trial {self._ended} of {samples}: {settings}; validation loss {loss:.5f} after {steps} of {STEPS} steps")

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            say(f"a trial failed: {trial.config}")

    return Progress()
