"""Search for a trainer's settings: Ray Tune with ASHA (Li et al. 2020, "A system for massively parallel hyperparameter tuning").

The only place that imports ray. Asked for by options of the training request: `search_samples`, `search_cpus` a trial, and
`search_NAME=low:high` or `low:high:log` for the space. An experiment lies in the run's scratch folder, and one that was killed goes on
where it stood. Ray runs on this machine's loopback, or on the cluster that RAY_ADDRESS names (not tried).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import BadSettings
from training_triggers.trainers.retrain import Job, TrainingFailed
from training_triggers.trainers.train import Say

STEPS = 16  # looks at a trial, at most
GRACE = 2  # before it may be stopped
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
            made = cls(float(parts[0]), float(parts[1]), parts[2:] == ["log"])
            if len(parts) > 3 or (len(parts) == 3 and not made.log) or not made.low < made.high or (made.log and made.low <= 0):
                raise ValueError
        except (ValueError, IndexError):
            raise BadSettings(f"option search_{name} is {text!r}; it takes low:high or low:high:log, low under high") from None
        return made


def space_of(job: Job, usual: Mapping[str, Range]) -> dict[str, Range]:
    return {
        name: Range.parse(name, job.options[f"search_{name}"]) if f"search_{name}" in job.options else one
        for name, one in usual.items()
    }


def best(job: Job, usual: Mapping[str, Range], trial: Trial, say: Say) -> dict[str, float]:
    """The settings with the lowest loss at the end. Raises BadSettings, TrainingFailed where no trial came to a number."""
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")  # what ended before a kill is not tried again
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
        os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler
    except ImportError as error:
        raise BadSettings(f"{error.name} is not here: `./millrace setup tune` fetches it") from error

    samples, folder = int(job.number("search_samples", 20)), job.scratch / "search"
    space = space_of(job, usual)
    chosen = {name: (tune.loguniform if one.log else tune.uniform)(one.low, one.high) for name, one in space.items()}

    def run(settings: dict[str, float]) -> None:
        for step, loss in zip(range(STEPS), trial(settings), strict=False):
            tune.report({"loss": loss, "step": step + 1})

    own = not ray.is_initialized()
    if own:
        ray.init(
            address=os.environ.get("RAY_ADDRESS"), include_dashboard=False, log_to_driver=False, configure_logging=False,
            **({} if "RAY_ADDRESS" in os.environ else {"num_cpus": os.cpu_count(), "_node_ip_address": "127.0.0.1"}),
            runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}},
        )  # fmt: skip
    try:
        trainable = tune.with_resources(run, {"cpu": job.number("search_cpus", 1)})
        config = tune.TuneConfig(
            metric="loss", mode="min", num_samples=samples, time_budget_s=LIMIT_S,
            scheduler=ASHAScheduler(time_attr="step", max_t=STEPS, grace_period=GRACE, reduction_factor=HALVING),
        )  # fmt: skip
        where = tune.RunConfig(name="trials", storage_path=str(folder.resolve()), verbose=0, callbacks=[_told(say, samples)])
        if tune.Tuner.can_restore(str(folder.resolve() / "trials")):
            say("the search goes on where it stood")
            tuner = tune.Tuner.restore(str(folder.resolve() / "trials"), trainable, restart_errored=True, param_space=chosen)
        else:
            tuner = tune.Tuner(trainable, param_space=chosen, tune_config=config, run_config=where)
        found = tuner.fit()
    finally:
        if own:
            ray.shutdown()
    ended = [one for one in found if one.metrics and one.metrics.get("loss") == one.metrics.get("loss") and "loss" in one.metrics]
    if not ended:
        raise TrainingFailed(f"none of {samples} trials came to a loss that is a number")
    winner = min(ended, key=lambda one: float(one.metrics["loss"]))
    stopped = sum(int(one.metrics["step"]) < STEPS for one in ended)
    settings = {name: float(winner.config[name]) for name in space}
    said = ", ".join(f"{name} {value:.4g}" for name, value in settings.items())
    say(
        f"best of {len(ended)} trials, {stopped} of them stopped early: {said}, validation loss {float(winner.metrics['loss']):.5f}"
    )
    return settings


def _told(say: Say, samples: int) -> Any:
    from ray import tune

    class Told(tune.Callback):  # type: ignore[misc]
        """Each trial that ended, a line."""

        def __init__(self) -> None:
            self._ended = 0

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self._ended += 1
            settings = ", ".join(f"{name} {value:.4g}" for name, value in trial.config.items())
            last = trial.last_result or {}
            say(
                f"trial {self._ended} of {samples}: {settings}; validation loss {last.get('loss', float('nan')):.5f} after {last.get('step', 0)} of {STEPS} steps"
            )

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            say(f"a trial failed: {trial.config}")

    return Told()
