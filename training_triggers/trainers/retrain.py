"""A new version out of the one that answers and what was recorded since, by model: what each trainer gets and gives."""

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
from training_triggers.trainers.train import Made, Say

Bools = npt.NDArray[np.bool_]


class TrainingFailed(Stop):
    """A training came to nothing that may answer: a loss that is no number, a checkpoint of another run."""

    code = "training-failed"


def number(options: Mapping[str, str], name: str, default: float) -> float:
    """Of a training request. Raises BadSettings."""
    try:
        return float(options.get(name, default))
    except ValueError:
        raise BadSettings(f"option {name} is {options[name]!r}; it takes a number") from None


@dataclass(frozen=True)
class Job:
    """out: folder of the new version. scratch: checkpoints and the like, kept between attempts of the same run.
    data: folder of the public data sets, which need not be there. about: what the card and the config say of its origin."""

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
    """holdout: where the trainer keeps one of its own, which of its examples champion and candidate told right."""

    made: Made
    holdout: tuple[Bools, Bools] | None = None


Retrain = Callable[[ModelFolder, Examples, Job, Say], Retrained]


def _lazily(module: str, group: str) -> Retrain:
    """Trainers are imported where they train: torch takes seconds, and need not be there."""

    def retrain(champion: ModelFolder, examples: Examples, job: Job, say: Say) -> Retrained:
        try:
            found = import_module(f"training_triggers.trainers.{module}")
        except ImportError as error:
            raise BadSettings(f"{error.name} is not here: `./millrace setup {group}` fetches it") from error
        made: Retrained = found.retrain(champion, examples, job, say)
        return made

    return retrain


RETRAIN: Mapping[str, Retrain] = {
    "moderation-text": _lazily("moderation_text_retrain", "retrain"),
    "vision-digits": _lazily("vision_digits_retrain", "train"),
}


def trainer_of(model: str) -> Retrain:
    """Raises BadSettings where no trainer learns the model."""
    if model not in RETRAIN:
        raise BadSettings(f"no trainer learns {model} from recorded requests; there are {', '.join(RETRAIN)}")
    return RETRAIN[model]
