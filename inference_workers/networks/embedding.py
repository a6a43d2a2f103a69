"""Embeddings in the form of the prediction log: reduced to few numbers that preserve the distances between embeddings.

Embeddings are multiplied by a fixed matrix of random signs, which preserves squared distances on average (Achlioptas 2003,
"Database-friendly random projections"). The drift detector on embeddings compares only distances.
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
    """Reduces shape (entries, any width) to (entries, at most WIDTH)."""
    wide = np.asarray(embedding, np.float32)
    narrow = wide if wide.shape[1] <= WIDTH else wide @ _signs(wide.shape[1])
    return np.clip(narrow, -HIGHEST, HIGHEST).astype("<f2")


@lru_cache(maxsize=16)
def _signs(width: int) -> npt.NDArray[np.float32]:
    """Uses RandomState, not a Generator, because its stream is frozen (NEP 19): a baseline must outlive a release of numpy."""
    drawn = np.random.RandomState(SEED).randint(0, 2, size=(width, WIDTH))
    return np.asarray((2.0 * drawn - 1.0) / np.sqrt(WIDTH), np.float32)
