"""What recommendation is compared with: popularity, item-kNN, EASE, and ALS by the library implicit, in an environment of its own.

Each gives scores of all items, float64 (users, items), from the same training events: every event counts once, whatever its kind.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.settings import StackSettings
from schemas.errors import Stop
from streams.process.settings import load
from tests.benchmarks.peers.environments import interpreter
from training_triggers.trainers.recommending.interactions import Interactions

Floats = npt.NDArray[np.float64]
ALS_PROGRAM = Path(__file__).with_name("als_program.py")
ALS_FACTORS, ALS_LIMIT_S = 32, 600.0
EASE_PENALTY = 200.0  # the best of 100, 200, 400 and 800 on the last fifth of the training events


def interactions(data: Interactions) -> Floats:
    """1 where a user had an event with an item."""
    made = np.zeros((len(data.profiles), len(data.items.ids)))
    made[data.user, data.item] = 1.0
    return made


def popularity(data: Interactions, seed: int) -> Floats:
    return np.tile(interactions(data).sum(axis=0), (len(data.profiles), 1))


def item_knn(data: Interactions, seed: int) -> Floats:
    """Cosine of items' columns, summed over the user's items (Sarwar et al. 2001)."""
    had = interactions(data)
    length = np.maximum(np.linalg.norm(had, axis=0), 1e-9)
    near = had.T @ had / np.outer(length, length)
    np.fill_diagonal(near, 0.0)
    return had @ near


def ease(data: Interactions, seed: int) -> Floats:
    """Steck 2019: the linear model without a diagonal, in closed form."""
    had = interactions(data)
    inverse = np.linalg.inv(had.T @ had + EASE_PENALTY * np.eye(had.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return had @ weights


def als(data: Interactions, seed: int) -> Floats:
    """Hu, Koren and Volinsky 2008, by implicit with its own defaults and 32 factors. Raises Stop if it cannot be installed or fails."""
    python = interpreter(load(StackSettings, os.environ), "implicit")
    with tempfile.TemporaryDirectory() as place:
        given, found = Path(place) / "events.npz", Path(place) / "factors.npz"
        shape = (len(data.profiles), len(data.items.ids))
        np.savez(given, user=data.user, item=data.item, shape=shape)
        done = subprocess.run(
            [python, str(ALS_PROGRAM), str(given), str(found), str(ALS_FACTORS), str(seed)],
            capture_output=True,
            text=True,
            timeout=ALS_LIMIT_S,
            check=False,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        if done.returncode != 0:
            raise Stop(f"ALS failed: {done.stderr.strip()[-800:]}")
        factors = np.load(found)
        scores: Floats = factors["users"] @ factors["items"].T
        return scores


METHODS: dict[str, Callable[[Interactions, int], Floats]] = {
    "popularity": popularity,
    "item-kNN": item_knn,
    "EASE": ease,
    "ALS, 32 factors": als,
}
SEEDED = {"ALS, 32 factors"}  # the others give the same for every seed
