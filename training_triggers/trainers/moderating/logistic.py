"""Logistic regression of several categories at once over sparse features, by L-BFGS. Deterministic.

Each category has its own loss with an L2 penalty; they are minimised together, since a product with all weights costs little more than
with those of one category. A label may be unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

STEPS = 60
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int8]
Matrix = Any  # scipy.sparse.csr_matrix, which has no types, or float32 (n, m)


@dataclass(frozen=True)
class Linear:
    """weights: float32 (features, categories). bias: float32 (categories,)."""

    weights: Floats
    bias: Floats

    def logits(self, features: Matrix) -> Floats:
        """features: (n, features). Returns float32 (n, categories)."""
        return np.asarray(features @ self.weights + self.bias, np.float32)


def fit(
    features: Matrix, labels: Labels, weights: Floats, strength: Floats, steps: int = STEPS, offsets: Floats | float = 0.0
) -> Linear:
    """features: (n, m). labels: int8 (n, categories), 1, 0, or -1 for unknown. weights: float32 (n, categories), 0 for an unknown label.
    strength: float32 (categories,), the inverse of the penalty (C). offsets: float32 (n, categories), added to the logits while fitting."""
    features = features.astype(np.float32)
    turned = features.T.tocsr() if hasattr(features, "tocsr") else features.T
    m, categories = features.shape[1], labels.shape[1]
    signs = np.where(labels == 1, 1.0, -1.0).astype(np.float32)
    inverse = (1.0 / strength).astype(np.float32)

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        table = flat.reshape(m + 1, categories).astype(np.float32)
        margins = signs * (features @ table[:m] + table[m] + offsets)
        slopes = -signs * weights / (1.0 + np.exp(np.clip(margins, -60, 60)))
        value = (weights * np.logaddexp(0.0, -margins)).sum(dtype=np.float64)
        value += 0.5 * (np.square(table[:m]).sum(axis=0, dtype=np.float64) * inverse).sum()
        gradient = np.vstack([turned @ slopes + table[:m] * inverse, slopes.sum(axis=0)[None]])
        return float(value), gradient.ravel().astype(np.float64)

    options = {"maxiter": steps, "maxcor": 6}
    found = minimize(loss, np.zeros((m + 1) * categories), jac=True, method="L-BFGS-B", options=options).x
    table = found.reshape(m + 1, categories).astype(np.float32)
    return Linear(table[:m], table[m])
