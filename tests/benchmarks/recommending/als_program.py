"""Runs implicit's ALS on the events of an npz file, in its own environment: EVENTS FACTORS_OUT N_FACTORS SEED."""

from __future__ import annotations

import sys

import numpy as np


def main(given: str, out: str, factors: int, seed: int) -> None:
    import scipy.sparse as sparse
    from implicit.als import AlternatingLeastSquares  # type: ignore[import-not-found]

    events = np.load(given)
    shape = tuple(events["shape"].tolist())
    had = sparse.csr_matrix((np.ones(len(events["user"]), np.float32), (events["user"], events["item"])), shape)
    had.data[:] = 1.0
    model = AlternatingLeastSquares(factors=factors, random_state=seed, num_threads=1)
    model.fit(had, show_progress=False)
    np.savez(out, users=model.user_factors, items=model.item_factors)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
