"""The interface of trainers that make a new version from the live one and recorded requests, and the trainer of each model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference_workers.models.folder import ModelFolder
from schemas.errors import BadSettings, Stop
from training_triggers.recorded.training_window import Examples
from training_triggers.trainers.train import Say, TrainedVersion

Bools = npt.NDArray[np.bool_]


class TrainingFailed(Stop):
    """Training gave no usable model: for example, the loss is NaN."""

    code = "training-failed"


def number(options: Mapping[str, str], name: str, default: float) -> float:
    """A numeric option of a training request. Raises BadSettings."""
    try:
        return float(options.get(name, default))
    except ValueError:
        raise BadSettings(f"option {name} is {options[name]!r}; it takes a number") from None


@dataclass(frozen=True)
class Job:
    """out: folder of the new version. scratch: folder of checkpoints and other intermediate files, kept between attempts of the
    same run. data: folder of the public data sets, which may be missing. about: origin of the examples, for the card and the
    config."""

    out: Path
    scratch: Path
    version: str
    data: Path
    about: str
    threads: int = 1
    options: Mapping[str, str] = field(default_factory=dict)

    def number(self, name: str, default: float) -> float:
        """Raises BadSettings."""
        return number(self.options, name, default)


@dataclass(frozen=True)
class Retrained:
    """holdout: of a trainer with a holdout of its own, which of its examples champion and candidate answer correctly, bool (n,)
    each."""

    made: TrainedVersion
    holdout: tuple[Bools, Bools] | None = None


Retrain = Callable[[ModelFolder, Examples, Job, Say], Retrained]


def _lazily(module: str, group: str) -> Retrain:
    """Import a trainer only when it trains: torch takes seconds to import and may not be installed."""

    def retrain(champion: ModelFolder, examples: Examples, job: Job, say: Say) -> Retrained:
        try:
            trainer = import_module(f"training_triggers.trainers.{module}")
        except ImportError as error:
            raise BadSettings(f"{error.name} is not installed: run `./millrace setup {group}`") from error
        retrained: Retrained = trainer.retrain(champion, examples, job, say)
        return retrained

    return retrain


RETRAIN: Mapping[str, Retrain] = {
    "moderation-text": _lazily("moderating.moderation_text_retrain", "retrain"),
    "vision-digits": _lazily("vision_digits_retrain", "train"),
    "recommendation": _lazily("recommending.recommendation_retrain", "features recommendation train"),
}


def trainer_of(model: str) -> Retrain:
    """Raises BadSettings if the model has no trainer."""
    if model not in RETRAIN:
        raise BadSettings(f"{model} cannot be trained from recorded requests; these models can: {', '.join(RETRAIN)}")
    return RETRAIN[model]
