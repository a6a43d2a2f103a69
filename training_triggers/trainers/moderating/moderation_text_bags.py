"""Texts as weighted bags of hashed n-grams, sparse: the input of the network of `networks/hashed_linear.py`, for trainers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from inference_workers.networks.ngrams import CHAR_BITS, WORD_BITS, words_and_chars

Matrix = Any  # scipy.sparse.csr_matrix, which has no types


def counts_of(texts: Sequence[str]) -> tuple[Matrix, Matrix]:
    """Counts of hashed n-grams: one csr matrix per bag, shape (n, buckets)."""
    parts: tuple[list[Matrix], list[Matrix]] = ([], [])
    for at in range(0, len(texts), 256):
        ngrams_of_both = words_and_chars(texts[at : at + 256])
        for bag, ngrams, bits in zip(parts, ngrams_of_both, (WORD_BITS, CHAR_BITS), strict=True):
            rows, columns = np.nonzero(ngrams.counts)
            shape = (len(ngrams.counts), 2**bits)
            bag.append(sparse.csr_matrix((ngrams.counts[rows, columns], (rows, ngrams.buckets[rows, columns])), shape))
    return sparse.vstack(parts[0]).tocsr(), sparse.vstack(parts[1]).tocsr()


def idf_of(counts: Matrix) -> npt.NDArray[np.float32]:
    """Inverse document frequency of each bucket, float32 (buckets,), smoothed by one document. counts: sparse (n, buckets)."""
    documents = np.bincount(counts.indices, minlength=counts.shape[1])
    idf: npt.NDArray[np.float32] = (np.log((1 + counts.shape[0]) / (1 + documents)) + 1).astype(np.float32)
    return idf


def weighted(counts: Matrix, idf: npt.NDArray[np.float32]) -> Matrix:
    """TF-IDF with logarithmic counts, each row of length 1: sparse float64 (n, buckets). idf: float32 (buckets,)."""
    values = counts.copy().astype(np.float64)
    values.data = (1 + np.log(values.data)) * idf[values.indices]
    lengths = np.sqrt(np.asarray(values.multiply(values).sum(axis=1)).ravel())
    return sparse.diags(1 / np.maximum(lengths, 1e-6)) @ values
