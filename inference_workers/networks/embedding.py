"""Embeddings as the prediction log keeps them: few numbers that keep the distances of many.

Achlioptas 2003, "Database-friendly random projections": multiplied by a fixed matrix of random signs, squared distances stay what they
were, on average. The detector on them compares distances and nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

WIDTH = 16
SEED = 20_261_125
HIGHEST = float(np.finfo(np.float16).max)


def reduced(embedding: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    """(entries, any width) to (entries, at most WIDTH)."""
    wide = np.asarray(embedding, np.float32)
    narrow = wide if wide.shape[1] <= WIDTH else wide @ _signs(wide.shape[1])
    return np.clip(narrow, -HIGHEST, HIGHEST).astype("<f2")


@lru_cache(maxsize=16)
def _signs(width: int) -> npt.NDArray[np.float32]:
    """RandomState and not a Generator: its stream is frozen (NEP 19), and a baseline outlives a release of numpy."""
    drawn = np.random.RandomState(SEED).randint(0, 2, size=(width, WIDTH))
    return np.asarray((2.0 * drawn - 1.0) / np.sqrt(WIDTH), np.float32)
