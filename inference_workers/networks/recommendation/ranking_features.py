"""The dense features of a user and a candidate, in the order of the ranker's input."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inference_workers.networks.recommendation.neighbours import FEATURES

Floats = npt.NDArray[np.float32]
NAMES = ("retrieval", *FEATURES, "popularity")


def popularity_scores(popularity: Floats) -> Floats:
    """float32 (items,): standard scores of the logarithm; 0 where all items are alike."""
    logarithm = np.log1p(np.maximum(popularity, 0.0))
    scores: Floats = ((logarithm - logarithm.mean()) / max(1e-6, float(logarithm.std()))).astype(np.float32)
    return scores


def dense(retrieval: Floats, neighbours: Floats, popularity: Floats) -> Floats:
    """float32 (c, NAMES). retrieval, popularity: (c,). neighbours: (c, FEATURES)."""
    return np.concatenate([retrieval[:, None] * 4.0, neighbours, popularity[:, None]], axis=1).astype(np.float32)
