"""Sexual content of pictures, from the classes neutral, drawing, sexy, porn and hentai.

The category's probability is porn + hentai. `sexy` does not count: its pictures are of dressed people, which the category does not
mean, and the model gives it to beaches and portraits too. It stays in the prediction log, as a signal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inference_workers.backends.backend import Scores
from inference_workers.models.folder import ModelFolder
from schemas.errors import ModelRefused

CATEGORY = "sexual_content"
COUNTED = ("porn", "hentai")


def check(folder: ModelFolder) -> None:
    """Raises ModelRefused if the model does not have the classes that count, or no other."""
    if not set(COUNTED) < set(folder.coverage):
        raise ModelRefused(
            f"{folder.path}: its classes are {', '.join(folder.coverage)}; {' and '.join(COUNTED)} must be among them"
        )


def merged(labels: tuple[str, ...], scores: Scores) -> Scores:
    """Logits of the category, float64 (n, 1), from logits of the classes, float64 (n, labels)."""
    is_counted = np.isin(labels, COUNTED)
    logits = _log_sum(scores.logits[:, is_counted]) - _log_sum(scores.logits[:, ~is_counted])
    return Scores(logits[:, None], scores.embedding)


def _log_sum(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    summed: npt.NDArray[np.float64] = np.logaddexp.reduce(logits, axis=1)
    return summed
