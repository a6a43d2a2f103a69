"""Converts batches of texts to hashed n-grams, the input of the text classifier; its trainer uses the same code.

Feature hashing (Weinberger et al., 2009) of words (1-2) and of UTF-8 bytes inside and across words (3-5): there is no vocabulary
to ship, every text has features, and one numpy pass computes the features of a whole batch.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference_workers.networks.visible_text import folded, visible

WORD_BITS = 17
CHAR_BITS = 18  # there are ten times as many character n-grams as word n-grams
MAX_CHARS = 20_000
_WORD = re.compile(r"\w\w+", re.UNICODE)
_MIX = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing (Knuth, TAOCP 6.4): spreads n-grams over the buckets
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Bags:
    """Padded bags of n texts. buckets: int64 (n, width), 0 for padding. counts: float32 (n, width), 0 for padding."""

    buckets: npt.NDArray[np.int64]
    counts: npt.NDArray[np.float32]


def normalise(text: str) -> str:
    """Folds the text before it cuts it, so that invisible characters cannot push visible ones past the limit."""
    return folded(unicodedata.normalize("NFKC", visible(text)).lower())[:MAX_CHARS].strip()


def words_and_chars(texts: Sequence[str]) -> tuple[Bags, Bags]:
    """Bags of word n-grams (1-2) and of byte n-grams (3-5) of each text."""
    clean = [normalise(text) for text in texts]
    return _pad(*_words(clean), len(texts), WORD_BITS), _pad(*_chars(clean), len(texts), CHAR_BITS)


def ngram_inputs(texts: Sequence[str]) -> dict[str, Any]:
    """The inputs of a network of hashed n-grams, by name: int64 and float32 (n, width)."""
    words, chars = words_and_chars(texts)
    return {
        "word_buckets": words.buckets,
        "word_counts": words.counts,
        "char_buckets": chars.buckets,
        "char_counts": chars.counts,
    }


def _words(texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], U64]:
    tokens = [[zlib.crc32(word.encode()) for word in _WORD.findall(text)] for text in texts]
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    rows = np.repeat(np.arange(len(texts)), lengths)
    one = np.fromiter((token for found in tokens for token in found), np.uint64, int(lengths.sum())) + np.uint64(1)
    if len(one) < 2:
        return rows, _bucket(one, WORD_BITS)
    two = one[:-1] * np.uint64(0x100000001B3) + one[1:] * np.uint64(0x9E3779B1)
    same = rows[:-1] == rows[1:]
    return np.concatenate([rows, rows[:-1][same]]), _bucket(np.concatenate([one, two[same]]), WORD_BITS)


def _chars(texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], U64]:
    raw = [f" {text} ".encode() for text in texts]
    data = np.frombuffer(b"".join(raw), np.uint8).astype(np.uint64) + np.uint64(1)
    rows = np.repeat(np.arange(len(raw)), np.fromiter(map(len, raw), np.int64, len(raw)))
    all_rows, all_hashes = [], []
    rolling = data
    for n in range(2, 6):
        if len(data) < n:
            break
        rolling = rolling[:-1] * np.uint64(0x100000001B3) + data[n - 1 :]
        if n < 3:
            continue
        same = rows[: len(rolling)] == rows[n - 1 :]
        all_rows.append(rows[: len(rolling)][same])
        all_hashes.append(rolling[same] + np.uint64(n))
    if not all_rows:
        return rows[:0], data[:0]
    return np.concatenate(all_rows), _bucket(np.concatenate(all_hashes), CHAR_BITS)


def _bucket(hashes: U64, bits: int) -> U64:
    return (hashes * _MIX) >> np.uint64(64 - bits)


def _pad(rows: npt.NDArray[np.int64], buckets: U64, n: int, bits: int) -> Bags:
    keys, counts = np.unique(rows.astype(np.uint64) << np.uint64(bits) | buckets, return_counts=True)
    found_rows = (keys >> np.uint64(bits)).astype(np.int64)
    sizes = np.bincount(found_rows, minlength=n)
    width = max(1, int(sizes.max(initial=0)))
    columns = np.arange(len(keys)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    padded = np.zeros((n, width), np.int64)
    weights = np.zeros((n, width), np.float32)
    padded[found_rows, columns] = (keys & np.uint64(2**bits - 1)).astype(np.int64)
    weights[found_rows, columns] = counts
    return Bags(padded, weights)
