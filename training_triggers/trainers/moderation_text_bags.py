"""Texts as weighted bags of hashed n-grams, sparse: what the network of `networks/hashed_linear.py` sees, for trainers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from inference_workers.networks.ngrams import CHAR_BITS, WORD_BITS, words_and_chars

Matrix = Any  # scipy.sparse.csr_matrix, which has no types


def counts_of(texts: list[str]) -> tuple[Matrix, Matrix]:
    """Counts of hashed n-grams, one csr matrix a bag, shape (n, buckets)."""
    parts: tuple[list[Matrix], list[Matrix]] = ([], [])
    for at in range(0, len(texts), 256):
        found_bags = words_and_chars(texts[at : at + 256])
        for bag, found, bits in zip(parts, found_bags, (WORD_BITS, CHAR_BITS), strict=True):
            rows, columns = np.nonzero(found.counts)
            shape = (len(found.counts), 2**bits)
            bag.append(sparse.csr_matrix((found.counts[rows, columns], (rows, found.buckets[rows, columns])), shape))
    return sparse.vstack(parts[0]).tocsr(), sparse.vstack(parts[1]).tocsr()


def idf_of(counts: Matrix) -> npt.NDArray[np.float32]:
    documents = np.bincount(counts.indices, minlength=counts.shape[1])
    idf: npt.NDArray[np.float32] = (np.log((1 + counts.shape[0]) / (1 + documents)) + 1).astype(np.float32)
    return idf


def weighted(counts: Matrix, idf: npt.NDArray[np.float32]) -> Matrix:
    values = counts.copy().astype(np.float64)
    values.data = (1 + np.log(values.data)) * idf[values.indices]
    lengths = np.sqrt(np.asarray(values.multiply(values).sum(axis=1)).ravel())
    return sparse.diags(1 / np.maximum(lengths, 1e-6)) @ values
